"""DPO and IPO: against the formulas in NumPy, against autograd of the plain logits, against trl."""

import math
from collections import defaultdict
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from oracles.hugging_face import hugging_face_name, hugging_face_pair, turned
from torch import Tensor

from cfg_gpt2 import GPT2Config
from finetuning.preference import (
    answer_log_probabilities,
    preference_loss,
    warn_of_fall,
)
from finetuning.preference_settings import PreferenceConfig
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from training.runtime import Batch, empty_batch

SIZES = GPT2Config(vocab_size=97, context_length=25, n_layer=2, n_head=2, n_embd=64, dropout=0.0)
N_PAIRS = 8


def pair_rows() -> tuple[Tensor, Tensor]:
    """Returns the tokens of 8 pairs, (16, 24), and which of them are an answer: 3 to 12 each."""
    generator = torch.Generator().manual_seed(7)
    tokens = torch.randint(97, (2 * N_PAIRS, 24), generator=generator)
    is_answer = torch.zeros(tokens.shape, dtype=torch.bool)
    for row in range(len(tokens)):
        start = 4 + row // 2  # both answers of a pair follow the same prompt
        is_answer[row, start : start + 3 + row * 5 % 10] = True
        tokens[row, :start] = tokens[row - row % 2, :start]
    return tokens, is_answer


def pair_batch() -> Batch:
    """Returns the pairs with a reference that is off by some nats, as after some steps."""
    tokens, is_answer = pair_rows()
    targets = tokens.where(is_answer, IGNORE_INDEX)[:, 1:]
    ours, _ = hugging_face_pair(SIZES)
    with torch.no_grad():
        reference = answer_log_probabilities(ours, tokens[:, :-1], targets)
    return reference + torch.linspace(-3, 3, 16), tokens[:, :-1], targets


def numpy_log_probabilities(model: GPT2Model, tokens: Tensor, targets: Tensor) -> np.ndarray:
    """Returns the sums of log-probabilities of rows from the plain logits, in fp64."""
    logits = model(tokens).detach().double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = np.take_along_axis(log_p, np.maximum(targets.numpy(), 0)[..., None], -1)[..., 0]
    return np.where(targets.numpy() != IGNORE_INDEX, found, 0).sum(1)


def gradients(model: GPT2Model) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    assert len(found) == len(list(model.parameters()))
    return found


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_losses_and_metrics_are_the_formulas_in_numpy(method: Literal["dpo", "ipo"]) -> None:
    ours, _ = hugging_face_pair(SIZES)
    reference, tokens, targets = pair_batch()
    total, count, sums = preference_loss(
        ours, (reference, tokens, targets), PreferenceConfig(loss=method, beta=0.3, chosen_nll=0.2)
    )
    log_p = numpy_log_probabilities(ours, tokens, targets).reshape(-1, 2)
    ratios = log_p - reference.double().numpy().reshape(-1, 2)
    n_tokens = (targets != IGNORE_INDEX).sum(1).numpy().reshape(-1, 2)
    margins = ratios[:, 0] - ratios[:, 1]
    if method == "dpo":
        losses = np.log1p(np.exp(-0.3 * margins))
    else:
        means = ratios / n_tokens
        losses = (means[:, 0] - means[:, 1] - 1 / 0.6) ** 2
    losses -= 0.2 * log_p[:, 0] / n_tokens[:, 0]
    expected = {
        "chosen": (log_p / n_tokens)[:, 0].sum(),
        "rejected": (log_p / n_tokens)[:, 1].sum(),
        "chosen_gain": (ratios / n_tokens)[:, 0].sum(),
        "margin": margins.sum(),
        "accuracy": (margins > 0).sum(),
        "tokens": n_tokens.sum(),
    }
    assert count.item() == N_PAIRS
    assert total.item() == pytest.approx(losses.sum(), rel=1e-6)
    # log-probabilities of tens of nats in fp32, whose differences are a few nats
    assert {name: x.item() for name, x in sums.items()} == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_gradients_are_those_of_the_plain_logits(method: Literal["dpo", "ipo"]) -> None:
    ours, _ = hugging_face_pair(SIZES)
    reference, tokens, targets = pair_batch()
    preference_loss(ours, (reference, tokens, targets), PreferenceConfig(loss=method))[0].backward()
    found = gradients(ours)
    scored = targets != IGNORE_INDEX
    log_p = ours(tokens).log_softmax(-1).gather(2, targets.where(scored, 0)[..., None])[..., 0]
    log_p, lengths = (log_p * scored).sum(1), scored.sum(1)
    ratios = log_p - reference
    if method == "dpo":
        losses = -torch.sigmoid(0.1 * (ratios[::2] - ratios[1::2])).log()
    else:
        losses = ((ratios / lengths)[::2] - (ratios / lengths)[1::2] - 5) ** 2
    (losses - 0.1 * (log_p / lengths)[::2]).sum().backward()
    torch.testing.assert_close(found, gradients(ours), atol=1e-5, rtol=1e-5)


def test_at_the_start_weights_the_loss_is_ln_2_whatever_the_batches() -> None:
    ours, _ = hugging_face_pair(SIZES)
    _, tokens, targets = pair_batch()
    with torch.no_grad():  # as computed before the first step: other rows together
        parts = zip(tokens.split(3), targets.split(3), strict=True)
        reference = torch.cat([answer_log_probabilities(ours, *part) for part in parts])
        batch = reference, tokens, targets
        total, count, sums = preference_loss(ours, batch, PreferenceConfig(chosen_nll=0.0))
    assert total.item() / count.item() == pytest.approx(math.log(2), abs=1e-5)
    assert sums["margin"].item() == pytest.approx(0, abs=1e-4)
    assert sums["chosen_gain"].item() == pytest.approx(0, abs=1e-4)
    with torch.no_grad():
        own = answer_log_probabilities(ours, tokens, targets)
        _, count, sums = preference_loss(ours, (own, tokens, targets))
    assert sums["accuracy"].item() == count.item() / 2


@pytest.mark.parametrize("n_parts", [2, 8])
def test_it_is_the_same_however_a_batch_is_cut(n_parts: int) -> None:
    ours, _ = hugging_face_pair(SIZES)
    batch = pair_batch()
    whole, _, _ = preference_loss(ours, batch)
    whole.backward()
    expected = gradients(ours)
    total = 0.0
    for part in zip(*(tensor.chunk(n_parts) for tensor in batch), strict=True):
        loss, _, _ = preference_loss(ours, part)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(gradients(ours), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_a_batch_that_counts_for_nothing_gives_zeros(method: Literal["dpo", "ipo"]) -> None:
    ours, _ = hugging_face_pair(SIZES)
    batch = empty_batch(pair_batch())
    total, count, sums = preference_loss(ours, batch, PreferenceConfig(loss=method))
    total.backward()
    assert [x.item() for x in (total, count, *sums.values())] == [0] * 8
    assert not any(gradient.any() for gradient in gradients(ours).values())


def test_a_fall_of_a_nat_a_token_is_told() -> None:
    assert warn_of_fall({"val_chosen_gain": -0.9}) is None
    assert warn_of_fall({"train_loss": 0.7}) is None
    warning = warn_of_fall({"val_chosen_gain": -1.25})
    assert warning and "lost 1.2 nats per token" in warning and "learning-rate" in warning


@pytest.mark.slow
@pytest.mark.parametrize(("method", "theirs"), [("dpo", "sigmoid"), ("ipo", "ipo")])
def test_losses_rewards_and_gradients_are_those_of_trl(
    method: Literal["dpo", "ipo"], theirs: str
) -> None:
    dpo_trainer = pytest.importorskip("trl.trainer.dpo_trainer")
    utils = pytest.importorskip("trl.trainer.utils")
    ours, hugging_face = hugging_face_pair(SIZES)
    reference, *_ = batch = pair_batch()
    tokens, is_answer = pair_rows()
    further = ("log_probs", "entropy", "mean_logits", "is_top1")  # which its metrics need
    utils.add_fused_lm_head(hugging_face, outputs=further)
    order = [*range(0, 16, 2), *range(1, 16, 2)]  # trl has all chosen answers first
    trainer = SimpleNamespace(
        model=hugging_face,
        accelerator=SimpleNamespace(
            device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x
        ),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[theirs],
        loss_weights=[1.0],
        beta=0.1,
        use_weighting=False,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    inputs = {
        "input_ids": tokens[order],
        "attention_mask": torch.ones_like(tokens),
        "completion_mask": is_answer[order].long(),
        "ref_chosen_logps": reference[::2],
        "ref_rejected_logps": reference[1::2],
    }
    expected = dpo_trainer.DPOTrainer._compute_loss(
        trainer, hugging_face, inputs, return_outputs=False
    )
    expected.backward()
    total, count, sums = preference_loss(ours, batch, PreferenceConfig(loss=method, chosen_nll=0.0))
    (total / count).backward()
    of_theirs = {name: p.grad for name, p in hugging_face.named_parameters()}
    metrics = trainer._metrics["eval"]
    assert total.item() / count.item() == pytest.approx(expected.item(), rel=1e-6)
    margin = 0.1 * sums["margin"].item() / count.item()
    assert margin == pytest.approx(metrics["rewards/margins"][0], abs=1e-5)
    assert sums["accuracy"].item() / count.item() == metrics["rewards/accuracies"][0]
    for name, gradient in gradients(ours).items():
        their_gradient = of_theirs[hugging_face_name(name)]
        assert their_gradient is not None
        torch.testing.assert_close(gradient, turned(name, their_gradient), atol=1e-5, rtol=0)
