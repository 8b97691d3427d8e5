"""A run that is killed, interrupted or out of disk, and resumed, equals one that never was.

The runs are processes, forked from one that has imported torch once.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from oracles.small_run import (
    TRAIN,
    VERSE,
    log_without_clock,
    new_trainer,
    printed,
    verse_corpus,
    weights,
)

from gpt2 import GPT2Model
from load_data import Corpus
from trainer import Batch, Trainer
from training.checkpoint import (
    RECORD_FILE,
    TENSORS_FILE,
    Checkpoints,
    read_checkpoint,
    verified,
)
from training.choose_runtime import missing_compiler
from training.kernels.cross_entropy import fused_language_model_loss
from training.progress import MetricsLog, draw_losses
from training.runtime import Runtime

ROOT = Path(__file__).parents[2]
N_STEPS = 24
STEPS = replace(TRAIN, max_steps=N_STEPS, eval_every=2, optimizer="muon", max_bad_steps=2)
MODULUS = 5  # gives steps that are not taken, alone and two in a row


def with_bad_windows(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """Returns the usual loss, but NaN for some batches: steps are skipped and rolled back."""
    total, count, extra = fused_language_model_loss(model, batch)
    bad = model.training and int(batch[0].sum()) % MODULUS == 0
    return total * (torch.nan if bad else 1), count, extra


def begin_or_resume(folder: Path) -> Trainer:
    """Begins or resumes folder/run, trains, and returns the trainer."""
    trainer = new_trainer(
        verse_corpus(folder.parent), folder / "run", STEPS, loss_fn=with_bad_windows
    )
    trainer.state.resume()
    trainer.train()
    return trainer


def process(folder: Path) -> None:
    """Trains as a process of its own, and ends with the exit status of main.py train."""
    torch.set_num_threads(1)
    stopped_by = begin_or_resume(folder).stopped_by
    os._exit(128 + stopped_by if stopped_by else 0)  # a second signal finds no one


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "uninterrupted"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:  # the picture that the processes draw
        patch.setattr("training.run_state.draw_losses", draw_losses)
        trainer = begin_or_resume(folder)
    torch.set_num_threads(before)
    assert trainer.state.step == N_STEPS
    assert "back to step" in printed(trainer)
    assert any("skipped" in line for line in trainer.state.log.read())
    return folder


def started(folder: Path) -> BaseProcess:
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "matplotlib.figure"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11 forgets it there
        child = context.Process(target=process, args=(folder,))
        child.start()
    return child


def hit(child: BaseProcess, number: int, folder: Path, wait: float, luck: random.Random) -> bool:
    """Sends a signal after a wait, or half the time in a save before, and ends the process.

    Returns whether the signal came in a save.
    """
    saves = luck.random() < 0.5
    deadline = time.monotonic() + wait
    checkpoints = folder / "run" / "checkpoints"
    while time.monotonic() < deadline and child.is_alive():
        if saves and any(checkpoints.glob(".step-*")):
            time.sleep(luck.uniform(0, 0.004))
            break
        time.sleep(0.0003 if saves else 0.005)
    if child.pid is not None and child.is_alive():
        os.kill(child.pid, number)
    in_save = any(checkpoints.glob(".step-*"))
    child.join()
    return in_save


def contents(folder: Path) -> tuple[dict[str, torch.Tensor], list, list[bytes]]:
    run = folder / "run"
    last = read_checkpoint(run / "checkpoints" / f"step-{N_STEPS:06d}")
    pictures = [(run / name).read_bytes() for name in ("model.safetensors", "loss.png")]
    log = [
        {k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")}
        for line in MetricsLog(run).read()
    ]
    return last, log, pictures


def assert_equal_runs(one: Path, other: Path) -> None:
    (tensors, log, files), (tensors_2, log_2, files_2) = contents(one), contents(other)
    assert tensors.keys() == tensors_2.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], tensors_2[name])] == []
    assert log == log_2
    assert [line["step"] for line in log] == list(range(N_STEPS + 1))
    assert files == files_2


def assert_survives(
    uninterrupted: Path, number: int, n_hits: int, allowed: set[int | None]
) -> None:
    """Sends n_hits signals to runs; each run, resumed to its end, equals the uninterrupted one."""
    began = time.monotonic()
    whole = started(uninterrupted.parent / f"whole-{number}")
    whole.join()
    lasts = time.monotonic() - began  # a run that nobody touches
    assert whole.exitcode == 0
    luck, n_struck, n_in_saves, n_runs = random.Random(number), 0, 0, 0
    while n_struck < n_hits:
        folder = uninterrupted.parent / f"struck-{number}-{n_runs}"
        n_runs += 1
        while True:
            child = started(folder)
            in_save = hit(child, number, folder, luck.uniform(0, 0.7 * lasts), luck)
            if child.exitcode == 0:
                break
            assert child.exitcode in allowed
            n_struck += 1
            n_in_saves += in_save
        assert_equal_runs(folder, uninterrupted)
    print(f"\n{n_struck} signals {number}, {n_in_saves} of them in a save, in {n_runs} runs")
    assert n_in_saves > n_hits // 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_run_killed_at_a_hundred_random_moments_ends_as_the_uninterrupted_one(
    uninterrupted: Path,
) -> None:
    assert_survives(uninterrupted, signal.SIGKILL, 100, {-signal.SIGKILL})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_run_sent_a_hundred_sigterms_ends_as_the_uninterrupted_one(uninterrupted: Path) -> None:
    # before the loop begins there is nothing to save, and the process ends at once
    assert_survives(uninterrupted, signal.SIGTERM, 100, {128 + signal.SIGTERM, -signal.SIGTERM})


SAVED_BY = [(signal.SIGTERM, 143)]
if sys.platform != "win32":  # test_trainer.py sends SIGINT and SIGHUP to this process
    also = [(signal.SIGINT, 130), (signal.SIGHUP, 129)]
    SAVED_BY += [(signal.SIGPIPE, 141), *(pytest.param(*s, marks=pytest.mark.slow) for s in also)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "status"), SAVED_BY)
def test_a_signal_ends_the_command_with_its_status_and_how_to_resume(
    tmp_path: Path, number: int, status: int
) -> None:
    (tmp_path / "verse.txt").write_text(VERSE * 60, encoding="utf-8")
    flags = "--data.path verse.txt --data.tokenizer char --out run --train.max-steps 100000 "
    flags += "--model.n-layer 1 --model.n-embd 16 --model.n-head 2 --model.context-length 8 "
    flags += "--train.device cpu --train.batch-size 2 --train.eval-every "
    flags += "50" if number == signal.SIGPIPE else "100000"
    command = [sys.executable, str(ROOT / "main.py"), "train", *flags.split()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, **pipes) as run:
        log = tmp_path / "run" / "metrics.jsonl"
        while not (log.exists() and log.read_text().count("\n") > 3):
            assert run.poll() is None
            time.sleep(0.02)
        assert run.stdout and run.stderr
        if number == signal.SIGPIPE:  # the reader leaves
            run.stdout.close()
            words = run.stderr.read()
        else:
            run.send_signal(number)
            words, _ = run.communicate()
    assert run.returncode == status
    step = json.loads(log.read_text().splitlines()[-1])["step"]
    assert f"Stopped after step {step} and saved." in words
    assert "python main.py train --resume run" in words
    place = tmp_path / "run" / "checkpoints" / f"step-{step:06d}"
    assert verified(place).step == step


@pytest.fixture
def three(corpus: Corpus, tmp_path: Path) -> Path:
    """Returns a run with checkpoints of steps 2, 4 and 6."""
    steps = replace(TRAIN, eval_every=2, keep_checkpoints=3)
    assert new_trainer(corpus, tmp_path / "run", steps).train()
    return tmp_path / "run"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


def test_a_checkpoint_cut_or_changed_anywhere_is_passed_over(corpus: Corpus, three: Path) -> None:
    """Tries 50 truncations and 50 flipped bits of each file: the one before is taken each time."""
    luck, words = random.Random(0), list[str]()
    checkpoints = Checkpoints(three, 3, words.append)
    newest = checkpoints.paths()[0]
    for name in (TENSORS_FILE, RECORD_FILE):
        file = newest / name
        whole = file.read_bytes()
        for n in range(100):
            place = luck.randrange(len(whole))
            harmed = bytearray(whole[:place] if n < 50 else whole)
            if n >= 50:
                harmed[place] ^= 1 << luck.randrange(8)
            file.write_bytes(harmed)
            found, record = checkpoints.newest()
            if found == newest:  # only white space of the record may differ
                assert name == RECORD_FILE and whole[place : place + 1].isspace()
                assert json.loads(harmed) == json.loads(whole)
                continue
            assert record.step == 4
            assert "step-000006 is damaged (" in words[-1] and "\n" not in words[-1]
        file.write_bytes(whole)
    assert checkpoints.newest()[0] == newest
    assert len(words) > 180


def test_a_disk_that_fills_up_in_a_save_loses_nothing_that_was_saved(
    corpus: Corpus, small_disk: Path
) -> None:
    """However much room is left, the run ends in a sentence and resumes when there is more."""
    steps = replace(TRAIN, eval_every=1)
    first = new_trainer(corpus, small_disk / "run", replace(steps, max_steps=2))
    assert first.train()
    free = shutil.disk_usage(small_disk).free
    for left in (0, 20_000, 100_000):  # not a line, not a checkpoint, not both of its files
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(free - left))
        trainer = new_trainer(corpus, small_disk / "run", steps)
        trainer.state.resume()
        reached = trainer.state.step
        with pytest.raises(OSError, match=r"No space left on device|cannot be written") as error:
            trainer.train()
        assert str(error.value).count("\n") == 0
        assert not list(small_disk.rglob(".step-*")) + list(small_disk.rglob("*.part"))
        words = list[str]()
        assert Checkpoints(small_disk / "run", 2, words.append).newest()[1].step >= reached
        assert words == []
        ballast.unlink()
        free = shutil.disk_usage(small_disk).free
    last = new_trainer(corpus, small_disk / "run", steps)
    last.state.resume()
    assert last.train()
    straight = new_trainer(corpus, small_disk.parent / "straight", steps)
    assert straight.train()
    assert torch.equal(weights(last), weights(straight))
    assert log_without_clock(last) == log_without_clock(straight)


@pytest.mark.slow
@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="no C++ compiler here")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_compiled_with_dropout_a_resumed_run_is_the_same_bit_for_bit(
    corpus: Corpus, tmp_path: Path, precision: torch.dtype
) -> None:
    compiled = Runtime(torch.device("cpu"), precision, compiled=True)
    straight = new_trainer(corpus, tmp_path / "straight", runtime=compiled)
    assert straight.train()
    half = new_trainer(corpus, tmp_path / "half", runtime=compiled)
    for _ in range(3):
        half.take_step()
    half.state.save()
    half.state.background.wait()
    torch.manual_seed(999)
    again = new_trainer(corpus, tmp_path / "half", runtime=compiled)
    again.state.resume()
    assert again.train()
    assert torch.equal(weights(again), weights(straight))
