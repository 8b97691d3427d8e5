"""training/micro_batch.py: kept memory is counted, and a batch is cut so that it fits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.small_run import FP32, TRAIN, new_trainer, printed, verse_corpus, weights

import training.micro_batch
from gpt2 import GPT2Model
from load_data import Corpus
from trainer import Batch
from training.choose_runtime import missing_compiler
from training.kernels.cross_entropy import fused_language_model_loss
from training.machine import free_memory
from training.micro_batch import SHARE, MemoryNeed, kept_bytes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


def test_each_kept_storage_counts_once_and_weights_do_not() -> None:
    layer = torch.nn.Linear(10, 20)
    x = torch.randn(5, 10, requires_grad=True)

    def forward() -> torch.Tensor:
        y = layer(x).exp()  # keeps x, which stands outside, and its own result
        return (y.view(-1) * y.view(-1)).sum()  # the same piece twice more

    assert kept_bytes(layer, forward) == 4 * (5 * 10 + 5 * 20)


def test_a_batch_is_cut_into_few_equal_micro_batches_that_fit() -> None:
    need = MemoryNeed(per_window=10, fixed=200, free=200 + int(125 / SHARE))
    assert need.most_windows() == 12
    assert [need.micro_batch(n) for n in (1, 12, 13, 24, 25, 100)] == [1, 12, 7, 12, 9, 12]
    assert replace(need, free=205).micro_batch(8) == 1  # one at a time is tried all the same
    assert "12 windows at a time take about" in need.describe(12)


def test_free_memory_of_this_machine_is_known() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is not None and 1e7 < free < 1e14


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_auto_finds_the_micro_batch_and_the_step_is_the_same(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    if compiled and missing_compiler("cpu"):
        pytest.skip("no C++ compiler here")
    all_fit = new_trainer(corpus, tmp_path / "all", replace(TRAIN, micro_batch="auto"))
    assert all_fit.micro_batches.size == 6
    need = all_fit.micro_batches.memory_need()
    assert need is not None
    three = need.fixed + int(3.5 * need.per_window / SHARE)
    monkeypatch.setattr(training.micro_batch, "free_memory", lambda device: three)
    runtime = replace(FP32, compiled=compiled)
    auto = new_trainer(
        corpus, tmp_path / "auto", replace(TRAIN, micro_batch="auto"), runtime=runtime
    )
    assert auto.micro_batches.size == 3
    assert "3 windows at a time take about" in printed(auto)
    auto.take_step()
    by_hand = new_trainer(corpus, tmp_path / "hand", replace(TRAIN, micro_batch=3), runtime=runtime)
    by_hand.take_step()
    assert torch.equal(weights(auto), weights(by_hand))


def test_a_resumed_run_keeps_the_micro_batch_that_was_measured(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = replace(TRAIN, micro_batch="auto")
    monkeypatch.setattr(training.micro_batch, "free_memory", lambda device: 0)
    assert new_trainer(corpus, tmp_path, train).train()
    monkeypatch.setattr(training.micro_batch, "free_memory", lambda device: 10**12)
    again = new_trainer(corpus, tmp_path, train)
    assert again.micro_batches.size == 6
    again.state.resume()
    assert again.micro_batches.size == 1
    asked = new_trainer(corpus, tmp_path, replace(train, micro_batch=2))
    asked.state.resume()
    assert asked.micro_batches.size == 2


MPS_ERROR = RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9 GB)")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), MPS_ERROR], ids=["cuda", "mps"])
def test_a_micro_batch_that_does_not_fit_is_halved_and_the_step_is_the_same(
    corpus: Corpus, tmp_path: Path, error: RuntimeError
) -> None:
    def small_gpu(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        if model.training and len(batch[0]) > 2:
            torch.rand(())  # what dropout draws before memory ends
            raise error
        return fused_language_model_loss(model, batch)

    short = new_trainer(corpus, tmp_path / "short", loss_fn=small_gpu)
    halved = short.take_step()
    assert short.micro_batches.size == 1  # 6, 3, 1
    assert "--train.micro-batch 3" in printed(short)
    by_hand = new_trainer(corpus, tmp_path / "by_hand", replace(TRAIN, micro_batch=1))
    assert by_hand.take_step()["train_loss"] == halved["train_loss"]
    assert torch.equal(weights(by_hand), weights(short))


def test_an_error_that_is_not_about_memory_is_raised_as_it_is(
    corpus: Corpus, tmp_path: Path
) -> None:
    def broken(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        raise RuntimeError("MPS backend failed")

    with pytest.raises(RuntimeError, match="MPS backend failed"):
        new_trainer(corpus, tmp_path, loss_fn=broken).take_step()


def test_a_window_that_does_not_fit_alone_ends_in_a_sentence(
    corpus: Corpus, tmp_path: Path
) -> None:
    def no_memory(model: GPT2Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict]:
        raise torch.OutOfMemoryError

    with pytest.raises(ValueError, match="one window does not fit into memory: not even two"):
        new_trainer(corpus, tmp_path, loss_fn=no_memory).take_step()


def test_memory_that_ends_in_the_optimizer_does_not_repeat_the_step(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **settings: object) -> None:
        raise torch.OutOfMemoryError

    trainer = new_trainer(corpus, tmp_path)
    monkeypatch.setattr("trainer.step_optimizers", full)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.take_step()
    assert trainer.micro_batches.size == 6


def test_a_resumed_run_reads_the_windows_of_its_position(corpus: Corpus, tmp_path: Path) -> None:
    trainer = new_trainer(corpus, tmp_path)
    first = trainer.micro_batches.at(0)
    trainer.micro_batches.prefetch(6)
    assert trainer.micro_batches.at(6) is trainer.micro_batches.at(6)  # read once
    for again, batch in zip(trainer.micro_batches.at(0), first, strict=True):
        assert all(map(torch.equal, again, batch))
