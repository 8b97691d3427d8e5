"""training/snapshots.py: weights on a log scale, which change nothing about the run itself."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.small_run import TRAIN, VERSE, new_trainer, printed, verse_corpus, weights
from safetensors.torch import load_file

from cfg_gpt2 import PRESETS, RunConfig, TrainConfig, preset
from gpt2 import GPT2Model
from load_data import Corpus
from run_directory.config_file import write_config
from trainer import Batch, Trainer
from training.kernels.cross_entropy import fused_language_model_loss
from training.snapshots import load_snapshot, name_of, steps_in, steps_of_snapshots
from training.sums import Sums

STEPS = replace(TRAIN, max_steps=24, eval_every=6, snapshots=6)
DUE = [0, 1, 2, 4, 7, 13, 24]
ROOT = Path(__file__).parents[2]
FLAGS = (
    "--data.path verse.txt --data.tokenizer char --model.n-layer 2 --model.n-embd 32 "
    "--model.n-head 2 --model.context-length 8 --train.batch-size 4 --train.eval-every 10 "
    "--train.max-steps 60 --train.snapshots 6 --train.device cpu --train.precision fp32"
)
DUE_60 = [0, 1, 2, 5, 12, 26, 60]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


def trained(corpus: Corpus, run_dir: Path, train: TrainConfig = STEPS) -> Trainer:
    """Returns the trainer of a run that was begun, or resumed, and is finished."""
    trainer = new_trainer(corpus, run_dir, train)
    trainer.state.resume()
    write_config(run_dir, RunConfig(model=trainer.model_config, train=train))
    assert trainer.train()
    return trainer


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    trained(corpus, run_dir)
    return run_dir


def contents(run_dir: Path) -> dict[int, bytes]:
    return {step: (run_dir / name_of(step)).read_bytes() for step in steps_in(run_dir)}


def test_steps_lie_evenly_on_a_log_scale_and_no_two_are_equal() -> None:
    assert steps_of_snapshots(4, 1000) == [0, 1, 10, 100, 1000]
    assert steps_of_snapshots(1, 1000) == [0, 1000]
    assert steps_of_snapshots(0, 1000) == []
    assert steps_of_snapshots(9, 5) == [0, 1, 2, 3, 4, 5]  # all there are
    for n in range(1, 70):
        steps = steps_of_snapshots(n, 64)
        assert len(steps) == 1 + min(n, 64) and steps[-1] == 64
        assert steps == sorted(set(steps))


def test_the_default_preset_has_sixteen_and_the_others_none() -> None:
    counts = {name: preset(name).train.snapshots for name in PRESETS}
    assert counts.pop("tiny") == 16 and set(counts.values()) == {0}


def test_a_run_has_the_weights_of_each_step_that_is_due(corpus: Corpus, run: Path) -> None:
    assert steps_in(run) == DUE
    assert (run / name_of(24)).read_bytes() == (run / "model.safetensors").read_bytes()
    trainer = new_trainer(corpus, run.parent / "apart", replace(STEPS, snapshots=0))
    for step in range(3):  # what is written is the moment of the step, not of the writing
        saved = load_file(run / name_of(step))
        named = {name: parameter.detach() for name, parameter in trainer.model.named_parameters()}
        torch.testing.assert_close(saved, named, rtol=0, atol=0)
        trainer.take_step()


def test_snapshots_change_no_bit_of_the_run(corpus: Corpus, run: Path, tmp_path: Path) -> None:
    without = trained(corpus, tmp_path / "without", replace(STEPS, snapshots=0))
    assert not (tmp_path / "without" / "snapshots").exists()
    one, other = (folder / "model.safetensors" for folder in (run, without.run_dir))
    assert one.read_bytes() == other.read_bytes()


def test_a_snapshot_is_loaded_as_a_model(run: Path) -> None:
    model = load_snapshot(run, 24)
    newest = GPT2Model.load(run)
    assert not model.training and model.lm_head.weight is model.token_embedding.weight
    tokens = torch.arange(5)[None]
    assert torch.equal(model(tokens), newest(tokens))
    assert not torch.equal(load_snapshot(run, 13)(tokens), newest(tokens))
    with pytest.raises(
        FileNotFoundError, match="no snapshot of step 3; there are those of steps 0, 1"
    ):
        load_snapshot(run, 3)


def interrupted(corpus: Corpus, run_dir: Path, at: int) -> None:
    """Trains a run until a signal comes in a step."""

    def loss(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Sums]:
        if model.training and trainer.state.step == at:
            os.kill(os.getpid(), signal.SIGINT)
        return fused_language_model_loss(model, batch)

    trainer = new_trainer(corpus, run_dir, STEPS, loss_fn=loss)
    assert not trainer.train()


def test_a_resumed_run_goes_on_with_its_snapshots_and_rewrites_none(
    corpus: Corpus, run: Path, tmp_path: Path
) -> None:
    interrupted(corpus, tmp_path / "run", at=8)
    assert steps_in(tmp_path / "run") == DUE[:5]
    times = {step: (tmp_path / "run" / name_of(step)).stat().st_mtime_ns for step in DUE[:5]}
    trained(corpus, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(run)
    for step, written in times.items():
        assert (tmp_path / "run" / name_of(step)).stat().st_mtime_ns == written


def test_a_run_without_the_setting_is_resumed_with_snapshots(
    corpus: Corpus, run: Path, tmp_path: Path
) -> None:
    trained(corpus, tmp_path / "run", replace(STEPS, snapshots=0, max_steps=6))
    trainer = trained(corpus, tmp_path / "run", replace(STEPS, max_steps=12))
    assert trainer.state.step == 12 and "anew" not in printed(trainer)
    assert steps_in(tmp_path / "run") == [7, 12]


def test_snapshots_of_steps_that_are_taken_again_are_removed(
    corpus: Corpus, run: Path, tmp_path: Path
) -> None:
    trainer = trained(corpus, tmp_path / "run", replace(STEPS, max_steps=6))
    later, half = tmp_path / "run" / name_of(7), tmp_path / "run/snapshots/.step-9.safetensors.part"
    later.write_bytes(b"of another past")
    half.write_bytes(b"half")
    trainer.state.background.wait()
    trainer.state.resume()
    assert not later.exists() and not half.exists()
    assert max(steps_in(tmp_path / "run")) == 6
    assert torch.isfinite(weights(trainer)).all()


def test_a_disk_that_is_full_ends_the_run_with_the_name_of_the_file(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, tensors: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("training.snapshots.write_tensors", full)
    with pytest.raises(OSError, match=r"No space left on device: .*step-000000"):
        new_trainer(corpus, tmp_path, STEPS).train()


def started(folder: Path, *arguments: str, n_processes: int = 1) -> subprocess.Popen[str]:
    """Returns main.py train in one process, or in several that torchrun starts."""
    (folder / "verse.txt").write_text(VERSE * 60, encoding="utf-8")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    prefix = [*torchrun, str(n_processes)] if n_processes > 1 else []
    command = [sys.executable, *prefix, str(ROOT / "main.py"), "train", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_killed_run_that_is_resumed_has_each_snapshot_once_and_whole(tmp_path: Path) -> None:
    finish(started(tmp_path, *FLAGS.split(), "--out", "straight"))
    killed = started(tmp_path, *FLAGS.split(), "--out", "run")
    while not (tmp_path / "run" / name_of(26)).exists():
        assert killed.poll() is None
        time.sleep(0.002)
    killed.kill()
    killed.communicate()
    finish(started(tmp_path, "--resume", "run"))
    straight = contents(tmp_path / "straight")
    assert list(straight) == DUE_60 and contents(tmp_path / "run") == straight
    files = list((tmp_path / "run/snapshots").iterdir())
    assert len(files) == len(DUE_60)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_of_several_processes_one_writes_the_whole_weights(tmp_path: Path, strategy: str) -> None:
    flags = (*FLAGS.split(), "--train.strategy", strategy, "--out", "run")
    finish(started(tmp_path, *flags, n_processes=2))
    run = tmp_path / "run"
    assert steps_in(run) == DUE_60
    assert (run / name_of(60)).read_bytes() == (run / "model.safetensors").read_bytes()
    sizes = {name: tensor.shape for name, tensor in load_file(run / "model.safetensors").items()}
    for step in DUE_60:
        saved = load_file(run / name_of(step))
        assert {name: tensor.shape for name, tensor in saved.items()} == sizes
