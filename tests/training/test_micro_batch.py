"""training/micro_batch.py: what is kept is counted, and a batch is cut so that it fits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.small_run import FP32, TRAIN, new_trainer, said, verse_corpus, weights

import training.micro_batch
from load_data import Corpus
from training.choose_runtime import missing_compiler
from training.machine import free_memory
from training.micro_batch import SHARE, MemoryNeed, kept_bytes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


def test_every_kept_piece_counts_once_and_weights_do_not() -> None:
    layer = torch.nn.Linear(10, 20)
    x = torch.randn(5, 10, requires_grad=True)

    def forward() -> torch.Tensor:
        y = layer(x).exp()  # keeps x, which stands outside, and its own result
        return (y.view(-1) * y.view(-1)).sum()  # the same piece twice more

    assert kept_bytes(layer, forward) == 4 * (5 * 10 + 5 * 20)


def test_a_batch_is_cut_into_few_equal_portions_that_fit() -> None:
    need = MemoryNeed(per_window=10, fixed=200, free=200 + int(125 / SHARE))
    assert need.most_windows() == 12
    assert [need.micro_batch(n) for n in (1, 12, 13, 24, 25, 100)] == [1, 12, 7, 12, 9, 12]
    assert replace(need, free=205).micro_batch(8) == 1  # one at a time is tried all the same
    assert "12 windows at a time take about" in need.describe(12)


def test_this_machine_says_what_is_free() -> None:
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
    auto = new_trainer(corpus, tmp_path / "auto", replace(TRAIN, micro_batch="auto"),
                       runtime=runtime)  # fmt: skip
    assert auto.micro_batches.size == 3
    assert "3 windows at a time take about" in said(auto)
    auto.take_step()
    by_hand = new_trainer(corpus, tmp_path / "hand", replace(TRAIN, micro_batch=3),
                          runtime=runtime)  # fmt: skip
    by_hand.take_step()
    assert torch.equal(weights(auto), weights(by_hand))


def test_a_resumed_run_keeps_the_micro_batch_that_was_found(
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
