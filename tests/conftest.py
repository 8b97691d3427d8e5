"""Tests run on the CPU, so that a machine with a GPU tests the same. `pytest -m cuda` uses it."""

import os
import signal

import pytest
import torch


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
