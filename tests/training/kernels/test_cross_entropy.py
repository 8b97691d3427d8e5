"""The fused linear cross-entropy is the output layer and the loss."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from cfg_gpt2 import GPT2Config
from gpt2 import GPT2Model
from loss import IGNORE_INDEX, next_token_loss
from trainer import language_model_loss
from training.kernels.cross_entropy import (
    ChunkSizes,
    fused_language_model_loss,
    linear_cross_entropy,
)


def random_rows(vocab_size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hidden states (3, 7, C), a head (V, C), targets (3, 7), some of which are ignored."""
    generator = torch.Generator().manual_seed(3)
    hidden_states = torch.randn(3, 7, 16, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab_size, 16, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(vocab_size, (3, 7), generator=generator)
    targets[1, 2:5] = targets[2, 0] = IGNORE_INDEX
    return hidden_states, weight, targets


@pytest.mark.parametrize("vocab_size", [2, 63, 64, 65])
@pytest.mark.parametrize(("max_logits", "softmax"), [(1 << 26, 1 << 22), (700, 150), (1, 1)])
def test_it_is_the_formula_in_fp64(vocab_size: int, max_logits: int, softmax: int) -> None:
    # rows and vocabulary are cut, and leave a remainder
    sizes = ChunkSizes(max_logits=max_logits, softmax=softmax, rows=2, columns=4)
    hidden_states, weight, targets = random_rows(vocab_size, torch.float64)
    log_p = (hidden_states @ weight.T).log_softmax(-1)
    counted = targets != IGNORE_INDEX
    plain = -log_p[counted][range(17), targets[counted]].sum()
    expected = torch.autograd.grad(0.3 * plain, (hidden_states, weight))
    total, count = linear_cross_entropy(hidden_states, weight, targets, sizes)
    found = torch.autograd.grad(0.3 * total, (hidden_states, weight), retain_graph=True)
    again = torch.autograd.grad(0.3 * total, (hidden_states, weight))
    assert count.item() == 17
    torch.testing.assert_close(total, plain, rtol=1e-12, atol=0)
    for ours, same, theirs in zip(found, again, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        assert torch.equal(ours, same)


def test_in_bf16_it_errs_no_more_than_autocast_does() -> None:
    hidden_states, weight, targets = random_rows(300, torch.float32)
    exact, _ = linear_cross_entropy(hidden_states, weight, targets)
    expected = torch.autograd.grad(exact, (hidden_states, weight))
    errors = []
    for way in ("fused", "plain"):
        with torch.autocast("cpu", torch.bfloat16):
            if way == "fused":
                total, _ = linear_cross_entropy(hidden_states, weight, targets)
            else:
                logits = torch.nn.functional.linear(hidden_states, weight)
                total, _ = next_token_loss(logits, targets)
        found = torch.autograd.grad(total, (hidden_states, weight))
        assert total.dtype == torch.float32
        assert [g.dtype for g in found] == [torch.float32, torch.float32]
        errors.append([(g - w).norm() / w.norm() for g, w in zip(found, expected, strict=True)])
        # 2^-9 of each logit, some 4 in size, the errors averaging out over 17 targets
        assert math.isclose(total.item(), exact.item(), rel_tol=2e-3)
    for ours, theirs in zip(*errors, strict=True):
        assert ours < 1.1 * theirs < 0.02


def test_it_is_the_same_where_no_gradient_is_needed() -> None:
    hidden_states, weight, targets = random_rows(11, torch.float32)
    with torch.inference_mode():
        measured, _ = linear_cross_entropy(hidden_states, weight, targets)
    assert torch.equal(measured, linear_cross_entropy(hidden_states, weight, targets)[0])


@pytest.mark.parametrize("frozen", ["hidden_states", "weight"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(
    frozen: Literal["hidden_states", "weight"],
) -> None:
    hidden_states, weight, targets = random_rows(70, torch.float64)
    total, _ = linear_cross_entropy(hidden_states, weight, targets)
    of_hidden_states, of_weight = torch.autograd.grad(total, (hidden_states, weight))
    (hidden_states if frozen == "hidden_states" else weight).requires_grad_(False)
    linear_cross_entropy(hidden_states, weight, targets)[0].backward()
    if frozen == "weight":
        assert weight.grad is None
        assert hidden_states.grad is not None and torch.equal(hidden_states.grad, of_hidden_states)
    else:
        assert hidden_states.grad is None
        assert weight.grad is not None and torch.equal(weight.grad, of_weight)


def test_the_fused_loss_of_a_model_is_the_trainers_loss() -> None:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=70, context_length=9, n_layer=2, n_head=2, n_embd=16, dropout=0.0
    )
    model = GPT2Model(config)
    tokens, targets = torch.randint(70, (2, 3, 9))
    targets[0, 4:] = IGNORE_INDEX
    results = []
    for loss_fn in (language_model_loss, fused_language_model_loss):
        model.zero_grad()
        total, count, metrics = loss_fn(model, (tokens, targets))
        total.backward()
        assert (count.item(), metrics) == (22, {})
        results.append([total, *(p.grad for p in model.parameters())])
    for plain, fused in zip(*results, strict=True):
        # fp32 carries 7 digits; sums of 22 losses and over 70 tokens cost one of them
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)
