"""training/tensorboard_log.py: TensorBoard reads the figures that metrics.jsonl has."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from oracles.small_run import FP32, TRAIN, new_trainer, verse_corpus

from commands.train_settings import read_train_command
from training import tensorboard_log
from training.progress import MetricsLog


def scalars(run_dir: Path) -> dict[str, dict[int, float]]:
    """The scalars as TensorBoard shows them, by name and step."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            assert event.step not in found[name], "a step is shown twice"
            found[name][event.step] = event.value
    return found


def logged(run_dir: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for line in MetricsLog(run_dir).read():
        for name, value in line.items():
            if name != "step":
                found[name][int(line["step"])] = pytest.approx(value, rel=1e-6)
    return found


def test_every_metric_of_a_run_is_a_scalar_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    corpus, run_dir = verse_corpus(tmp_path / "text"), tmp_path / "run"
    train = replace(TRAIN, tensorboard=True)
    assert new_trainer(corpus, run_dir, train).train()
    assert scalars(run_dir) == logged(run_dir)
    longer = new_trainer(corpus, run_dir, replace(train, max_steps=9))
    longer.state.resume()
    assert longer.train()
    found = scalars(run_dir)
    assert found == logged(run_dir)
    assert sorted(found["train_loss"]) == list(range(1, 10))


def test_steps_after_the_checkpoint_that_a_run_goes_on_from_are_shown_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    corpus, run_dir = verse_corpus(tmp_path / "text"), tmp_path / "run"
    killed = new_trainer(corpus, run_dir, replace(TRAIN, tensorboard=True))
    assert killed.train()
    for step in (7, 8):  # that no checkpoint holds
        killed.state.record_metrics({"step": step, "train_loss": 99.0})
    assert killed.state.scalars
    killed.state.scalars.flush()
    again = new_trainer(corpus, run_dir, replace(TRAIN, tensorboard=True, max_steps=8))
    again.state.resume()
    assert again.train()
    assert scalars(run_dir) == logged(run_dir)


def test_without_the_flag_nothing_is_written(tmp_path: Path) -> None:
    trainer = new_trainer(verse_corpus(tmp_path / "text"), tmp_path / "run")
    assert trainer.state.scalars is None
    trainer.state.record_metrics({"step": 1, "train_loss": 1.0})
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_only_the_first_of_several_processes_writes(tmp_path: Path) -> None:
    second = type(FP32)(FP32.device, FP32.precision, ranks=replace(FP32.ranks, rank=1, n_ranks=2))
    trainer = new_trainer(
        verse_corpus(tmp_path / "text"), tmp_path / "run", replace(TRAIN, tensorboard=True),
        runtime=second,
    )  # fmt: skip
    assert trainer.state.scalars is None


def test_a_missing_package_is_named_before_the_work_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensorboard_log, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"tensorboard needs the package tensorboard, which is"):
        read_train_command(["--train.tensorboard"])
