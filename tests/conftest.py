"""Tests run on the CPU, so that a machine with a GPU tests the same. `pytest -m cuda` uses it."""

import os
import signal
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from run_directory.files import write_whole
from training.progress import PICTURE_FILE, MetricsLog, draw_losses

PLAIN = set(string.ascii_letters + string.digits + "-_:, ")  # characters that every title may have


def pytest_configure(config: pytest.Config) -> None:
    """Hides GPUs from this process and those that it starts, unless tests marked cuda are run.

    Gives signals that a background command ignores their usual effect.
    """
    if config.getoption("-m") != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for name in ("SIGINT", "SIGHUP"):  # which a shell lets background commands ignore
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def no_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides an Apple GPU from the code under test."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture(autouse=True, scope="session")
def one_picture_of_each_kind() -> Iterator[None]:
    """Draws loss.png once for all runs that log the same metrics under a plain name.

    Drawing is half the time of a small run.
    """
    pictures: dict[tuple[frozenset[str], frozenset[str]], bytes] = {}

    def draw(run_dir: Path, title: str) -> Path:
        lines = MetricsLog(run_dir).read()
        kind = frozenset(name for line in lines for name in line), frozenset(title) - PLAIN
        if kind not in pictures:
            pictures[kind] = draw_losses(run_dir, title).read_bytes()
        path = run_dir / PICTURE_FILE
        write_whole(path, lambda part: part.write_bytes(pictures[kind]))
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.run_state.draw_losses", draw)
        yield
