"""training/background.py, training/stop_signal.py: saving in a thread, stopping by a signal."""

import os
import signal
import sys
import threading
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from oracles.small_run import TRAIN, new_trainer, verse_corpus
from rich.console import Console

from gpt2 import GPT2Model
from load_data import Corpus
from trainer import Batch
from training.background import Background
from training.checkpoint import Checkpoints, read_checkpoint
from training.kernels.cross_entropy import fused_language_model_loss
from training.progress import CommandConsole
from training.stop_signal import SIGNALS, SIGPIPE, stop_signal
from training.sums import Sums


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


def test_jobs_run_one_after_the_other_and_an_error_is_raised_once() -> None:
    background, gate, done = Background(), threading.Event(), []

    def slow() -> None:
        gate.wait()
        done.append("slow")

    background.start(slow)
    background.check()
    assert done == []  # the caller has gone on
    gate.set()
    background.start(lambda: done.append("next"))
    background.wait()
    assert done == ["slow", "next"]
    background.start(lambda: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        background.wait()
    background.wait()
    background.check()


def test_steps_are_taken_while_a_checkpoint_is_written(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, as_written = threading.Event(), Checkpoints.save
    steps_at_save = []

    def slow(self: Checkpoints, *arguments: object) -> Path:
        gate.wait()
        return as_written(self, *arguments)  # type: ignore[arg-type]

    def counted(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sums]:
        if model.training:
            steps_at_save.append(trainer.state.step)
            if trainer.state.step == 5:
                gate.set()  # two steps after the save of step 3 began
        return fused_language_model_loss(model, batch)

    straight = new_trainer(corpus, tmp_path / "straight")
    assert straight.train()
    monkeypatch.setattr(Checkpoints, "save", slow)
    trainer = new_trainer(corpus, tmp_path / "beside", loss_fn=counted)
    assert trainer.train()
    assert steps_at_save == list(range(6))
    for step in (3, 6):  # what was written is the moment of the save, not of the writing
        one, other = (
            read_checkpoint(tmp_path / name / "checkpoints" / f"step-{step:06d}")
            for name in ("straight", "beside")
        )
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_save_that_fails_ends_the_run_at_the_next_step(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.runtime.write_checkpoint", full)
    trainer = new_trainer(corpus, tmp_path, replace(TRAIN, max_steps=30))
    with pytest.raises(OSError, match="step-000003 cannot be written: No space left on device"):
        trainer.train()
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send itself these signals")
@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_asks_to_stop_and_the_second_stops_at_once(number: int) -> None:
    seen: list[int] = []
    before = {each: signal.signal(each, lambda n, frame: seen.append(n)) for each in SIGNALS}
    try:
        with stop_signal(Console()) as stop:
            assert stop.number == 0
            os.kill(os.getpid(), number)
            assert stop.number == number and seen == []
            os.kill(os.getpid(), signal.SIGTERM)  # either of them
            assert seen == [signal.SIGTERM]
        with stop_signal(Console()):
            pass
        os.kill(os.getpid(), number)
        assert seen == [signal.SIGTERM, number]
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_terminal_that_is_closed_twice_does_not_stop_the_save() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with stop_signal(Console()) as stop:
            for number in (signal.SIGHUP, signal.SIGHUP):  # of the shell and of the kernel
                os.kill(os.getpid(), number)
            assert stop.number == signal.SIGHUP
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # by nohup
        with stop_signal(Console()) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Unwritable(StringIO):
    """A file that nobody can write any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space")])
def test_an_output_that_is_lost_asks_to_stop_and_raises_nothing(error: OSError) -> None:
    console = CommandConsole(file=Unwritable(error))
    with stop_signal(console) as stop:
        console.print("step 1")
        console.print("step 2")
        assert stop.number == SIGPIPE
    assert console.lost is error
    with pytest.raises(type(error)):
        CommandConsole(file=Unwritable(error)).print("outside of the loop")


def test_a_terminal_that_vanishes_without_a_signal_ends_nothing() -> None:
    console = CommandConsole(file=Unwritable(OSError(5, "Input/output error")))
    console.print("step 1")
    with stop_signal(console) as stop:
        console.print("step 2")
        assert stop.number == 0


def test_another_thread_changes_no_signal_handler() -> None:
    found = []

    def inside() -> None:
        with stop_signal(Console()) as stop:
            found.append((stop.number, [signal.getsignal(number) for number in SIGNALS]))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [(0, [signal.getsignal(number) for number in SIGNALS])]
