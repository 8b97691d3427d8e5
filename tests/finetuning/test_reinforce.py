"""Learning from rewards: the loss, the answers of a step's own weights, exact resumption."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from oracles.hugging_face import hugging_face_pair
from oracles.small_answers import (
    CONTEXT_LENGTH,
    REWARD_TRAIN,
    item_of,
    reward_trainer,
    small_model,
    small_tokenizer,
    train_weak_model,
)
from oracles.small_run import log_without_clock, weights
from safetensors.torch import load_file
from torch import Tensor

from cfg_gpt2 import GPT2Config
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from finetuning.chat_format import Message, encode_prompt
from finetuning.drawn_answers import Sampler
from finetuning.reinforce import Questions, reward_loss, warn_of_equal_answers
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from training.runtime import Batch, empty_batch
from training.sums import Sums

SIZES = GPT2Config(vocab_size=97, context_length=24, n_layer=2, n_head=2, n_embd=64, dropout=0.0)


def answer_batch() -> Batch:
    """Returns 3 questions of 4 answers each, of which the second one's all earn the same."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(97, (12, 25), generator=generator)
    targets = tokens[:, 1:].clone()
    for row in range(12):
        targets[row, : 6 + row // 4] = targets[row, 10 + row :] = IGNORE_INDEX
    rewards = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0])
    advantages = (rewards.view(3, 4) - rewards.view(3, 4).mean(1, keepdim=True)).flatten()
    measures = torch.stack([torch.arange(12) / 10, rewards.flip(0)], dim=1)
    return rewards, advantages, measures, tokens[:, :-1], targets


def test_the_loss_is_what_was_not_earned_and_its_gradient_the_formula() -> None:
    ours, _ = hugging_face_pair(SIZES)
    ours.train()
    _, advantages, _, tokens, targets = answer_batch()
    total, count, sums = reward_loss(ours, answer_batch())
    total.backward()
    found = {name: p.grad.clone() for name, p in ours.named_parameters() if p.grad is not None}
    ours.zero_grad()
    expected = torch.zeros(())
    for row in (0, 1, 2, 3, 8, 9, 10, 11):
        log_p = ours(tokens[row : row + 1])[0].log_softmax(-1)
        for position in (targets[row] != IGNORE_INDEX).nonzero().flatten().tolist():
            expected = expected - advantages[row] * log_p[position, targets[row, position]]
    expected.backward()
    assert count.item() == 12
    assert total.item() == pytest.approx(12 - 7)
    n_targets = (targets != IGNORE_INDEX).sum().item()
    assert {name: x.item() for name, x in sums.items()} == {
        "reward": 7, "kl": pytest.approx(6.6), "possible": 7, "without_spread": 4,
        "tokens": n_targets,
    }  # fmt: skip
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-5)


def test_a_batch_that_counts_for_nothing_or_teaches_nothing_gives_a_gradient_of_zeros() -> None:
    ours, _ = hugging_face_pair(SIZES)
    ours.train()
    _, _, measures, tokens, targets = answer_batch()
    equal = torch.ones(12), torch.zeros(12), measures, tokens, targets
    for batch, n in ((empty_batch(answer_batch()), 0), (equal, 12)):
        total, count, sums = reward_loss(ours, batch)
        total.backward()
        assert (total.item(), count.item(), sums["reward"].item()) == (0, n, n)
        assert sums["without_spread"].item() == n
        assert all(p.grad is not None and not p.grad.any() for p in ours.parameters())


def test_answers_that_all_earn_the_same_are_told() -> None:
    assert warn_of_equal_answers({"without_spread": 0.9}) is None
    for reward, advice in ((0.98, "--reward.temperature"), (0.0, "--method sft first")):
        warning = warn_of_equal_answers({"without_spread": 0.97, "reward": reward})
        assert warning and "97% of the questions" in warning and advice in warning


@pytest.mark.parametrize(
    ("n_words", "n_new", "advice"),
    [(3, 60, "give --reward.max-new-tokens at most"), (99, 1, "take a model with a longer one")],
)
def test_questions_without_room_for_an_answer_are_refused(
    n_words: int, n_new: int, advice: str
) -> None:
    item = replace(item_of(1), prompt=(Message("user", "good " * n_words),))
    with pytest.raises(ValueError, match=f"none of 1 questions leaves room .*; {advice}"):
        Questions.of([item], small_tokenizer(), CONTEXT_LENGTH, n_new)


# With a trainer -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weak")
    train_weak_model(folder)
    return folder


def test_a_model_learns_the_answer_that_is_rewarded(weak: Path, tmp_path: Path) -> None:
    trainer = reward_trainer(weak, tmp_path, replace(REWARD_TRAIN, max_steps=24, eval_every=12))
    assert trainer.train()
    log = trainer.state.log.read()
    assert 0.1 < log[1]["reward"] < 0.9
    assert log[-1]["reward"] > 0.85
    assert log[-1]["val_reward"] == 1
    assert (log[0]["val_reward"] + log[0]["val_loss"], log[-1]["val_loss"]) == (1, 0)
    assert log[-1]["without_spread"] > log[1]["without_spread"]
    assert "val_without_spread" not in log[-1]
    assert log[1]["train_loss"] + log[1]["reward"] == pytest.approx(1)
    assert log[1]["kl"] == pytest.approx(0, abs=1e-6)  # the weights are those of the start
    assert log[-1]["kl"] > 0.01


def test_the_kl_from_the_start_weights_is_that_of_whole_distributions(weak: Path) -> None:
    """The estimate from one token each against the sum over all tokens, at the same prefixes."""
    start, model = small_model(), small_model()
    start.load_state_dict(load_file(weak / "model.safetensors"), strict=False)
    model.load_state_dict({n: 0.9 * w for n, w in start.state_dict().items()})
    prompt = encode_prompt(item_of(1).prompt, tokenizer := small_tokenizer())
    states = [RowState(prompt=prompt, seed=seed) for seed in range(600)]
    config = SamplingConfig(temperature=1, max_new_tokens=4, stop_tokens=(tokenizer.end_of_text,))
    drawn = Sampler(model, start).draw(states, config, tokenizer)
    exact = []
    for row, state, log_p in zip(drawn.rows, states, drawn.log_p.tolist(), strict=True):
        tokens = torch.from_numpy(row.tokens)[None]
        with torch.no_grad():
            own, old = (m(tokens[:, :-1])[0].log_softmax(-1) for m in (model.eval(), start.eval()))
        of_answer = own[len(prompt) - 1 :].gather(1, tokens[0, len(prompt) :, None])
        assert log_p == pytest.approx(of_answer.sum().item(), abs=1e-4)
        assert state.log_probabilities == pytest.approx(
            of_answer.flatten()[: len(state.tokens)].tolist(), abs=1e-4
        )
        kl = (own.exp() * (own - old)).sum(1)[len(prompt) - 1 :].sum().item()
        exact.append(kl / math.log(2))
    assert fmean(exact) > 0.02
    assert drawn.kl.mean().item() == pytest.approx(fmean(exact), rel=0.15)


def test_each_step_learns_from_answers_of_its_own_weights(weak: Path, tmp_path: Path) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def recorded(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
        if model.training:
            again = trainer.windows.batch(trainer.state.position, 4)
            seen.append((batch[3], again[3]))
        return reward_loss(model, batch)

    trainer = reward_trainer(weak, tmp_path, replace(REWARD_TRAIN, max_steps=3), recorded)
    assert trainer.train()
    assert len(seen) == 3
    for used, drawn_again in seen:
        assert torch.equal(used, drawn_again)
    late = trainer.windows.batch(0, 4)[3]
    assert late.shape != seen[0][0].shape or not torch.equal(late, seen[0][0])


def test_parts_of_a_batch_are_the_batch(weak: Path, tmp_path: Path) -> None:
    windows = reward_trainer(weak, tmp_path).windows
    rewards, advantages, measures, _, targets = windows.batch(0, 4)
    for first in (0, 1):
        part = windows.batch(first, 2, step=2)
        rows = torch.arange(32).view(4, 8)[first::2].flatten()
        assert torch.equal(part[0], rewards[rows])
        assert torch.equal(part[1], advantages[rows])
        torch.testing.assert_close(part[2], measures[rows], atol=1e-6, rtol=0)
        assert torch.equal((part[4] != IGNORE_INDEX).sum(1), (targets[rows] != IGNORE_INDEX).sum(1))


def test_a_resumed_run_is_the_same_run_bit_for_bit(weak: Path, tmp_path: Path) -> None:
    straight = reward_trainer(weak, tmp_path / "straight")
    assert straight.train()
    calls = 0

    def interrupted(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
        nonlocal calls
        calls += model.training
        if calls == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return reward_loss(model, batch)

    first = reward_trainer(weak, tmp_path / "resumed", loss_fn=interrupted)
    assert not first.train()
    second = reward_trainer(weak, tmp_path / "resumed")
    second.state.resume()
    assert second.train()
    assert torch.equal(weights(second), weights(straight))
    assert log_without_clock(second) == log_without_clock(straight)
