"""training/best_checkpoint.py: the weights with the lowest validation loss are the best ones."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.small_run import TRAIN, new_trainer, printed, verse_corpus
from safetensors.torch import load_file

from cfg_gpt2 import RunConfig
from gpt2 import GPT2Model
from load_data import Corpus
from run_directory.config_file import write_config
from run_directory.files import sha256
from training.best_checkpoint import best_checkpoint, load_best
from training.checkpoint import RECORD_FILE, TENSORS_FILE, Record
from training.sharded_checkpoint import read_shards


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def overfitted(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was saved four times, with validation losses of which the second is lowest."""
    run_dir = tmp_path_factory.mktemp("run") / "run"
    trainer = new_trainer(corpus, run_dir, replace(TRAIN, max_steps=12, keep_checkpoints=1))
    write_config(run_dir, RunConfig(model=trainer.model_config, train=TRAIN))
    for step, val_loss in ((3, 2.0), (6, 1.5), (9, 1.8), (12, 2.2)):
        while trainer.state.step < step:
            trainer.state.record_metrics(trainer.take_step())
        trainer.state.val_loss = val_loss
        trainer.state.save()
        trainer.state.background.wait()
    return run_dir


@pytest.fixture
def run(overfitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(overfitted, tmp_path / "run"))


def test_the_best_weights_are_those_of_the_best_checkpoint(run: Path) -> None:
    path, record = best_checkpoint(run)
    assert path.name == "step-000006" and (record.step, record.val_loss) == (6, 1.5)
    model, record = load_best(run)
    saved = load_file(path / TENSORS_FILE)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), saved[f"model/{name}"], rtol=0, atol=0)
    newest = dict(GPT2Model.load(run).named_parameters())
    assert any(not torch.equal(p, newest[name]) for name, p in model.named_parameters())
    assert not model.training and record.step == 6
    assert model.lm_head.weight is model.token_embedding.weight


def test_a_run_whose_last_evaluation_is_best_gives_the_newest_weights(
    corpus: Corpus, tmp_path: Path
) -> None:
    trainer = new_trainer(corpus, tmp_path / "run")
    write_config(tmp_path / "run", RunConfig(model=trainer.model_config, train=TRAIN))
    assert trainer.train()
    model, record = load_best(tmp_path / "run")
    assert record.step == 6
    newest = dict(GPT2Model.load(tmp_path / "run").named_parameters())
    assert all(torch.equal(p, newest[name]) for name, p in model.named_parameters())


def test_without_an_evaluated_checkpoint_a_sentence_says_so(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(FileNotFoundError, match=r"--best: .* has no checkpoint with a validation"):
        load_best(run)
    with pytest.raises(FileNotFoundError, match="does not exist; name a run directory"):
        load_best(run / "nothing")


def test_a_damaged_best_checkpoint_is_named(run: Path) -> None:
    path, _ = best_checkpoint(run)
    data = bytearray((path / TENSORS_FILE).read_bytes())
    data[-1] ^= 1
    (path / TENSORS_FILE).write_bytes(data)
    with pytest.raises(ValueError, match=r"--best: .*step-000006 is damaged .* leave out --best"):
        load_best(run)


def test_a_record_that_cannot_be_read_is_no_best_one(run: Path) -> None:
    path, _ = best_checkpoint(run)
    (path / RECORD_FILE).write_text("{}", encoding="utf-8")
    assert best_checkpoint(run)[0].name == "step-000012"


def test_the_tensors_of_a_prefix_are_read_without_the_optimizer(run: Path) -> None:
    path, _ = best_checkpoint(run)
    names = set(read_shards(path, {}, "model/"))
    assert names and all(name.startswith("model/") for name in names)


def test_the_best_checkpoint_of_several_processes_is_opened_by_one(run: Path) -> None:
    whole, _ = load_best(run)
    path, record = best_checkpoint(run)
    shard = path / "shard-00001-model-00001-of-00001.safetensors"  # as several processes write it
    (path / TENSORS_FILE).rename(shard)
    text = replace(record, files={shard.name: sha256(shard)}, n_ranks=2).to_json()
    (path / RECORD_FILE).write_text(text, encoding="utf-8")
    weights = dict(load_best(run)[0].named_parameters())
    assert all(torch.equal(p, weights[name]) for name, p in whole.named_parameters())


def test_the_trainer_says_once_that_it_overfits(corpus: Corpus, tmp_path: Path) -> None:
    trainer = new_trainer(corpus, tmp_path / "run", replace(TRAIN, max_steps=15))
    losses = iter([4.0, 3.0, 2.0, 2.5, 3.0, 3.5])
    trainer.evaluate = lambda: {"val_loss": next(losses), "val_bits_per_byte": 1.0}
    assert trainer.train()
    assert printed(trainer).count("overfitting: the validation loss was lowest at step 6") == 1
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [line["step"] for line in log] == list(range(16))


def test_a_record_of_another_run_is_read_as_it_was_written(run: Path) -> None:
    path, record = best_checkpoint(run)
    assert Record.from_json((path / RECORD_FILE).read_text(encoding="utf-8")) == record
