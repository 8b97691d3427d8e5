"""training/checkpoint.py: a checkpoint is whole or absent; a damaged one is passed over."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.small_run import TRAIN, VERSE, new_trainer, printed, verse_corpus, weights

from load_data import Corpus
from trainer import Trainer
from training.checkpoint import RECORD_FILE, TENSORS_FILE, Record, read_checkpoint


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def finished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a run of nine steps with checkpoints of steps 3, 6 and 9."""
    run_dir = tmp_path_factory.mktemp("run")
    keeps_all = replace(TRAIN, max_steps=9, keep_checkpoints=3)
    assert new_trainer(corpus, run_dir, keeps_all).train()
    assert places(run_dir) == ["step-000003", "step-000006", "step-000009"]
    return run_dir


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Returns a copy of the finished run that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def places(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def resumed(corpus: Corpus, run_dir: Path, max_steps: int = 9) -> Trainer:
    trainer = new_trainer(corpus, run_dir, replace(TRAIN, max_steps=max_steps))
    trainer.state.resume()
    return trainer


def flip_bit(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_a_checkpoint_is_read_again_bit_for_bit(run: Path) -> None:
    tensors = read_checkpoint(run / "checkpoints" / "step-000009")
    assert {"random/cpu", "model/position_embedding.weight"} <= set(tensors)
    assert "optimizer/position_embedding.weight/exp_avg_sq" in tensors
    text = (run / "checkpoints" / "step-000009" / RECORD_FILE).read_text()
    record = Record.from_json(text)
    assert (record.step, record.windows) == (9, 54)
    assert record.to_json() == text
    assert Record.from_json(replace(record, seconds=0.1 + 0.2, val_loss=1e-300).to_json()) == (
        replace(record, seconds=0.1 + 0.2, val_loss=1e-300)
    )


@pytest.mark.parametrize("name", [TENSORS_FILE, RECORD_FILE])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "remove"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    corpus: Corpus, finished: Path, run: Path, name: str, harm: str
) -> None:
    file = run / "checkpoints" / "step-000009" / name
    if harm == "flip":
        # the first digit of the checksum in the record: any byte but its white space counts
        at = 1000 if name == TENSORS_FILE else file.read_bytes().index(b'"checksum": "') + 15
        flip_bit(file, at)
    elif harm == "remove":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: -100 if harm == "cut" else 0])
    trainer = resumed(corpus, run)
    assert trainer.state.step == 6
    assert printed(trainer).count("\n") == 1
    assert "step-000009 is damaged" in printed(trainer)
    assert [line["step"] for line in trainer.state.log.read()] == list(range(7))
    assert trainer.train()
    untouched = read_checkpoint(finished / "checkpoints" / "step-000009")
    again = read_checkpoint(run / "checkpoints" / "step-000009")
    assert untouched.keys() == again.keys()
    assert all(torch.equal(again[key], tensor) for key, tensor in untouched.items())
    assert printed(resumed(corpus, run)) == ""  # the damaged one is no more


def test_no_whole_checkpoint_ends_in_a_sentence(corpus: Corpus, run: Path) -> None:
    for place in (run / "checkpoints").iterdir():
        flip_bit(place / TENSORS_FILE, -1)
    with pytest.raises(ValueError, match=r"none of the checkpoints in .* is whole; start anew"):
        resumed(corpus, run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint to go on from"):
        resumed(corpus, run)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "step-000009.safetensors").touch()
    with pytest.raises(ValueError, match="holds a checkpoint of an earlier version"):
        resumed(corpus, run)


def test_a_run_that_was_never_saved_begins_anew(corpus: Corpus, tmp_path: Path) -> None:
    straight = new_trainer(corpus, tmp_path / "straight")
    new_trainer(corpus, tmp_path / "killed").state.log.append({"step": 0})
    assert straight.train()
    again = new_trainer(corpus, tmp_path / "killed")
    again.state.resume()
    assert "was stopped before its first checkpoint: anew" in printed(again)
    assert again.train()
    assert torch.equal(weights(again), weights(straight))
    assert [line["step"] for line in again.state.log.read()] == list(range(7))


def test_the_last_checkpoints_and_the_best_are_kept(corpus: Corpus, tmp_path: Path) -> None:
    trainer = new_trainer(corpus, tmp_path, replace(TRAIN, max_steps=15, keep_checkpoints=2))
    assert trainer.train()
    losses = {int(m["step"]): m["val_loss"] for m in trainer.state.log.read() if "val_loss" in m}
    del losses[0]  # measured, not saved
    best = min(losses, key=lambda step: losses[step])
    expected = {f"step-{step:06d}" for step in (12, 15, best)}
    assert set(places(tmp_path)) == expected
    (tmp_path / "checkpoints" / ".step-000013").mkdir()  # a kill in the middle of a save
    longer = resumed(corpus, tmp_path, 18)
    assert longer.train()
    assert ".step-000013" not in places(tmp_path)


def test_the_best_checkpoint_survives_two_later_ones(corpus: Corpus, run: Path) -> None:
    place = run / "checkpoints" / "step-000003"
    record = Record.from_json((place / RECORD_FILE).read_text())
    (place / RECORD_FILE).write_text(replace(record, val_loss=0.0).to_json())
    assert resumed(corpus, run, 18).train()
    assert places(run) == ["step-000003", "step-000015", "step-000018"]


def test_another_text_tokenizer_size_or_optimizer_is_refused(
    corpus: Corpus, run: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    changed = VERSE.replace("cat sat", "sat cat") * 60
    text = verse_corpus(tmp_path / "other", changed)
    with pytest.raises(ValueError, match=r"the text of .* has changed since the run began"):
        resumed(text, run)
    alphabet = verse_corpus(tmp_path / "letters", changed.upper())
    with pytest.raises(ValueError, match="was trained with another tokenizer"):
        resumed(alphabet, run)
    larger = new_trainer(corpus, run, n_layer=3)
    with pytest.raises(ValueError, match=r"trained with n_layer 2, but its config\.json says 3"):
        larger.state.resume()
    muon = new_trainer(corpus, run, replace(TRAIN, optimizer="muon"))
    with pytest.raises(ValueError, match=r"trained by --train\.optimizer adamw, and muon cannot"):
        muon.state.resume()
    tuned = new_trainer(corpus, run)
    tuned.state.further = {"base weights": "3b1f"}
    with pytest.raises(ValueError, match="trained with base weights none, and here it is 3b1f"):
        tuned.state.resume()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_further_entries_of_the_identity_are_recorded_and_left_out_where_there_are_none(
    run: Path,
) -> None:
    text = (run / "checkpoints" / "step-000009" / RECORD_FILE).read_text()
    assert "further" not in text
    record = Record.from_json(text)
    assert record.identity.further == {}
    tuned = replace(record, identity=replace(record.identity, further={"rank": "8"}))
    assert Record.from_json(tuned.to_json()) == tuned
