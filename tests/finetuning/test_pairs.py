"""Pairs of answers as training data: what is learned, the reference, and exact resumption."""

import math
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from oracles.small_answers import (
    CONTEXT_LENGTH,
    pair_of,
    pairs_of,
    preference_trainer,
    small_tokenizer,
)
from oracles.small_run import TRAIN, log_without_clock, printed, weights

from finetuning.chat_format import Message, encode_prompt
from finetuning.pairs import REFERENCE_FILE, PreferenceCorpus, fit_pair
from finetuning.preference import preference_loss
from finetuning.preference_settings import PreferenceConfig
from gpt2 import GPT2Model
from loss import IGNORE_INDEX


def test_only_the_answers_and_their_ends_are_learned() -> None:
    tokenizer = small_tokenizer()
    pairs = pairs_of(range(30))
    _, tokens, targets = pairs.batch([4, 11], CONTEXT_LENGTH, tokenizer.end_of_text)
    assert len(pairs) == 30
    assert tokens.shape == targets.shape == (4, 48)
    answers = [row[row != IGNORE_INDEX].tolist() for row in targets]
    ends = [answer.pop() for answer in answers]
    assert [tokenizer.decode(answer) for answer in answers] == [
        "a lamp", "the red ball", "a red ball", "the hat",
    ]  # fmt: skip
    assert ends == [tokenizer.end_of_text] * 4
    assert pairs.n_targets == sum(len(tokenizer.encode(a.content)) + 1 for n in range(30)
                                  for a in (pair_of(n).chosen, pair_of(n).rejected))  # fmt: skip


def test_both_rows_of_a_long_pair_lose_the_same_turns() -> None:
    tokenizer = small_tokenizer()
    long = pair_of(3)
    system, answer = Message("system", "Look."), Message("assistant", "a box")
    long = replace(long, prompt=(system, *(pair_of(5).prompt[0], answer) * 3, *long.prompt))
    for context_length in range(72, 260, 7):
        fitted = fit_pair(long, tokenizer, context_length)
        assert fitted
        kept = fitted[0].tokens.count(tokenizer.end_of_text)
        expected = encode_prompt((system, *long.prompt[1 - kept + 1 :]), tokenizer)
        for row in fitted:
            assert row.tokens[: len(expected)] == expected
            assert row.is_learned[: len(expected)] == [False] * len(expected)
            assert all(row.is_learned[len(expected) :])
            assert len(row.tokens) <= context_length + 1
    assert fit_pair(long, tokenizer, 30) is None


def test_the_pairs_of_an_epoch_are_all_pairs_and_parts_are_the_whole() -> None:
    tokenizer = small_tokenizer()
    corpus = PreferenceCorpus(tokenizer, *[pairs_of(range(30))] * 2)
    corpus.train.reference[:] = torch.arange(60)  # tells which pair a row is of
    windows = corpus.windows(CONTEXT_LENGTH, seed=5)
    reference, tokens, targets = windows.batch(30, 30)
    assert sorted(reference.tolist()) == list(range(60))
    assert reference.tolist() != windows.batch(0, 30)[0].tolist()
    for first in (0, 1):  # every second one, as two processes read them
        part = windows.batch(30 + first, 15, step=2)
        rows = torch.arange(60).view(30, 2)[first::2].flatten()
        width = part[1].size(1)
        for whole, of_part in zip((tokens, targets), part[1:], strict=True):
            assert torch.equal(whole[rows, :width], of_part)
    assert windows.epochs(45) == [1.5]
    evaluated = torch.cat([batch[0] for batch in corpus.evaluation_batches(CONTEXT_LENGTH, 4)])
    assert sorted(evaluated.tolist()) == list(range(60))


def test_training_begins_at_ln_2_and_learns_to_prefer(tmp_path: Path) -> None:
    train = replace(TRAIN, max_steps=30, batch_size=10, micro_batch=4, eval_every=15)
    loss_fn = partial(preference_loss, config=PreferenceConfig(beta=1.0, chosen_nll=0.0))
    trainer = preference_trainer(tmp_path, train, loss_fn)
    assert trainer.train()
    log = trainer.state.log.read()
    assert log[0]["val_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert log[1]["train_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert log[1]["margin"] == pytest.approx(0, abs=1e-4)
    assert log[-1]["val_loss"] < 0.3
    assert log[-1]["val_accuracy"] > 0.9
    assert log[-1]["val_chosen"] > log[-1]["val_rejected"]
    assert not any("bits" in name for line in log for name in line)
    n_tokens = sum(line["tokens_per_second"] > 0 for line in log[1:])
    assert n_tokens == 30
    assert log[-1]["tokens"] == 10 * trainer.corpus.train.n_targets
    assert "validation loss 0.6931 nats per token, chosen -5." in printed(trainer)


def test_a_resumed_run_is_the_same_run_bit_for_bit(tmp_path: Path) -> None:
    straight = preference_trainer(tmp_path / "straight")
    assert straight.train()
    calls = 0

    def interrupted(model: GPT2Model, batch: tuple[torch.Tensor, ...]) -> tuple:
        nonlocal calls
        calls += model.training
        if calls == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return preference_loss(model, batch)

    first = preference_trainer(tmp_path / "resumed", loss_fn=interrupted)
    assert not first.train()
    second = preference_trainer(tmp_path / "resumed")
    second.state.resume()
    assert second.train()
    assert torch.equal(weights(second), weights(straight))
    assert log_without_clock(second) == log_without_clock(straight)
    reference = second.corpus.train.reference  # pyright: ignore[reportAttributeAccessIssue]
    assert reference.isfinite().all() and reference.max() < -5


def test_a_run_that_has_lost_its_reference_is_refused(tmp_path: Path) -> None:
    trainer = preference_trainer(tmp_path)
    file = tmp_path / REFERENCE_FILE
    file.write_bytes(file.read_bytes()[:-9])
    preference_trainer(tmp_path)  # before the first checkpoint it is computed once more
    assert trainer.train()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(FileNotFoundError, match=r"reference.safetensors is damaged .*--out"):
        preference_trainer(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"reference.safetensors is missing: .*--out"):
        preference_trainer(tmp_path)
