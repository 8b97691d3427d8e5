"""Learning from rewards: the loss, the answers of a step's own weights, exact resumption."""

import os
import signal
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from oracles.hugging_face import hugging_face_pair
from oracles.small_run import FP32, TRAIN, log_without_clock, weights
from rich.console import Console
from torch import Tensor

from cfg_gpt2 import GPT2Config, RunConfig, TrainConfig
from finetuning.chat_format import Message, encode_dialogue
from finetuning.dialogues import DialogueCorpus, DialogueRows
from finetuning.exam import ExamItem
from finetuning.reinforce import (
    QuestionCorpus,
    Questions,
    Sampler,
    reward_loss,
    right_dialogue,
    warn_of_equal_answers,
)
from finetuning.reward_settings import RewardConfig
from finetuning.supervised import supervised_loss
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from tokenizer import Tokenizer
from trainer import LossFunction, Trainer
from training.runtime import Batch, empty_batch
from training.sums import Sums

SIZES = GPT2Config(vocab_size=97, context_length=24, n_layer=2, n_head=2, n_embd=64, dropout=0.0)
CONTEXT_LENGTH = 48
CONFIG = RewardConfig(answers=8, max_new_tokens=4)
RL = replace(
    TRAIN, max_steps=6, batch_size=4, learning_rate=3e-3, final_learning_rate=3e-3, warmup_steps=0
)


def item_of(number: int, answer: str = "yes") -> ExamItem:
    prompt = (Message("user", f"Is {number} good?"),)
    return ExamItem(prompt=prompt, answers=(answer,), kind="good")


def answer_batch() -> Batch:
    """Returns 3 questions of 4 answers each, of which the second one's all earn the same."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(97, (12, 25), generator=generator)
    targets = tokens[:, 1:].clone()
    for row in range(12):
        targets[row, : 6 + row // 4] = targets[row, 10 + row :] = IGNORE_INDEX
    rewards = torch.tensor([1.0, 0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0])
    advantages = (rewards.view(3, 4) - rewards.view(3, 4).mean(1, keepdim=True)).flatten()
    return rewards, advantages, tokens[:, :-1], targets


def test_loss_and_gradients_are_the_formula_and_equal_rewards_teach_nothing() -> None:
    ours, _ = hugging_face_pair(SIZES)
    rewards, advantages, tokens, targets = answer_batch()
    total, count, sums = reward_loss(ours, (rewards, advantages, tokens, targets))
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
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    n_targets = (targets != IGNORE_INDEX).sum().item()
    assert {name: x.item() for name, x in sums.items()} == {
        "reward": 7, "without_spread": 4, "tokens": n_targets,
    }  # fmt: skip
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-5)


def test_a_batch_that_counts_for_nothing_or_teaches_nothing_gives_a_gradient_of_zeros() -> None:
    ours, _ = hugging_face_pair(SIZES)
    _, _, tokens, targets = answer_batch()
    equal = torch.ones(12), torch.zeros(12), tokens, targets
    for batch, n in ((empty_batch(answer_batch()), 0), (equal, 12)):
        total, count, sums = reward_loss(ours, batch)
        total.backward()
        assert (total.item(), count.item(), sums["reward"].item()) == (0, n, n)
        assert sums["without_spread"].item() == n
        assert all(p.grad is not None and not p.grad.any() for p in ours.parameters())


def test_answers_that_all_earn_the_same_are_told() -> None:
    assert warn_of_equal_answers({"without_spread": 0.9}) is None
    warning = warn_of_equal_answers({"without_spread": 0.97})
    assert warning and "97% of the questions" in warning and "--reward.temperature" in warning


# With a trainer -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, dict[str, Tensor]]:
    """Returns the weights of a model that says yes or no at random, and ends by itself."""
    dialogues = [
        right_dialogue(item_of(number, answer)) for number in range(20) for answer in ("yes", "no")
    ]
    texts = ["".join(message.content for message in one) for one in dialogues]
    tokenizer = Tokenizer.train([*texts, "<|user|>\n <|assistant|>\n yes no"], vocab_size=300)
    rows = DialogueRows.of((encode_dialogue(one, tokenizer) for one in dialogues), tokenizer)
    corpus = DialogueCorpus(tokenizer, rows, rows)
    train = replace(TRAIN, max_steps=60, batch_size=8, eval_every=60)
    trainer = trainer_of(corpus, tokenizer, tmp_path_factory.mktemp("weak"), train, supervised_loss)
    assert trainer.train()
    return tokenizer, {n: p.detach().clone() for n, p in trainer.model.named_parameters()}


def trainer_of(
    corpus: DialogueCorpus | QuestionCorpus,
    tokenizer: Tokenizer,
    run_dir: Path,
    train: TrainConfig,
    loss_fn: LossFunction,
    model: GPT2Model | None = None,
) -> Trainer:
    sizes = replace(SIZES, vocab_size=tokenizer.vocab_size, context_length=CONTEXT_LENGTH)
    torch.manual_seed(train.seed)
    run_dir.mkdir(parents=True, exist_ok=True)
    config = RunConfig(model=sizes, train=train)
    console = Console(file=StringIO(), width=1000)
    return Trainer(model or GPT2Model(sizes), corpus, config, run_dir, FP32, console, loss_fn)


def reward_trainer(
    weak: tuple[Tokenizer, dict[str, Tensor]],
    run_dir: Path,
    train: TrainConfig = RL,
    loss_fn: LossFunction = reward_loss,
) -> Trainer:
    """Returns a trainer that rewards a yes to every question, from the weak weights on."""
    tokenizer, start = weak
    model = GPT2Model(
        replace(SIZES, vocab_size=tokenizer.vocab_size, context_length=CONTEXT_LENGTH)
    )
    model.load_state_dict(start, strict=False)
    numbers = (range(20), range(20, 24))
    parts = [
        Questions.of(map(item_of, part), tokenizer, CONTEXT_LENGTH, CONFIG.max_new_tokens)
        for part in numbers
    ]
    corpus = QuestionCorpus(tokenizer, *parts, CONFIG, Sampler(model))
    return trainer_of(corpus, tokenizer, run_dir, train, loss_fn, model)


def test_a_model_learns_the_answer_that_is_rewarded(
    weak: tuple[Tokenizer, dict[str, Tensor]], tmp_path: Path
) -> None:
    trainer = reward_trainer(weak, tmp_path, replace(RL, max_steps=12))
    assert trainer.train()
    log = trainer.state.log.read()
    assert 0.1 < log[1]["reward"] < 0.9
    assert log[-1]["reward"] > 0.85
    assert log[-1]["val_reward"] == 1
    assert log[-1]["val_loss"] < log[0]["val_loss"]
    assert log[-1]["without_spread"] > log[1]["without_spread"]


def test_each_step_learns_from_answers_of_its_own_weights(
    weak: tuple[Tokenizer, dict[str, Tensor]], tmp_path: Path
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def recorded(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
        if model.training:
            again = trainer.windows.batch(trainer.state.position, 4)
            seen.append((batch[2], again[2]))
        return reward_loss(model, batch)

    trainer = reward_trainer(weak, tmp_path, replace(RL, max_steps=3), recorded)
    assert trainer.train()
    assert len(seen) == 3
    for used, drawn_again in seen:
        assert torch.equal(used, drawn_again)
    late = trainer.windows.batch(0, 4)[2]
    assert late.shape != seen[0][0].shape or not torch.equal(late, seen[0][0])


def test_parts_of_a_batch_are_the_batch(
    weak: tuple[Tokenizer, dict[str, Tensor]], tmp_path: Path
) -> None:
    windows = reward_trainer(weak, tmp_path).windows
    rewards, advantages, _, targets = windows.batch(0, 4)
    for first in (0, 1):
        part = windows.batch(first, 2, step=2)
        rows = torch.arange(32).view(4, 8)[first::2].flatten()
        assert torch.equal(part[0], rewards[rows])
        assert torch.equal(part[1], advantages[rows])
        assert torch.equal((part[3] != IGNORE_INDEX).sum(1), (targets[rows] != IGNORE_INDEX).sum(1))


def test_a_resumed_run_is_the_same_run_bit_for_bit(
    weak: tuple[Tokenizer, dict[str, Tensor]], tmp_path: Path
) -> None:
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
