"""What several test files here share."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from oracles.corpora import data_config

from cfg_gpt2 import DataConfig


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., DataConfig]:
    """Paths and data settings -> a DataConfig with a cache of its own."""
    return partial(data_config, tmp_path / "cache")
