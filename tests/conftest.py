"""Tests run on the CPU, so that a machine with a GPU tests the same. `pytest -m cuda` uses it."""

import os

import pytest
import torch


def pytest_configure(config: pytest.Config) -> None:
    """Hides GPUs from this process and those that it starts, unless tests marked cuda are run."""
    if config.getoption("-m") != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def no_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides an Apple GPU from the code under test."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
