import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loss import IGNORE_INDEX, bits_per_byte, next_token_loss, perplexity


def random_batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4, 6, 11, generator=generator)
    return logits, torch.randint(11, (4, 6), generator=generator)


def direct_sum(logits: Tensor, targets: Tensor) -> float:
    """-log(e^logit / sum of e^logits), token by token, in Python's own numbers."""
    total = 0.0
    rows, wanted = logits.flatten(0, 1).tolist(), targets.flatten().tolist()
    for row, target in zip(rows, wanted, strict=True):
        if target != IGNORE_INDEX:
            total -= math.log(math.exp(row[target]) / sum(math.exp(x) for x in row))
    return total


def test_the_sum_is_minus_the_log_probability_of_the_targets() -> None:
    logits, targets = random_batch()
    total, count = next_token_loss(logits, targets)
    # fp32 against fp64: 7 digits, less two for the sum of 24
    assert math.isclose(total.item(), direct_sum(logits, targets), rel_tol=1e-5)
    assert count.item() == 24


def test_ignored_targets_count_neither_in_the_sum_nor_in_the_gradient() -> None:
    logits, targets = random_batch()
    targets[0, :3] = targets[2] = IGNORE_INDEX
    logits.requires_grad_()
    total, count = next_token_loss(logits, targets)
    total.backward()
    assert count.item() == 15
    assert math.isclose(total.item(), direct_sum(logits, targets), rel_tol=1e-5)
    silent = logits.grad.abs().sum(dim=-1) == 0
    assert torch.equal(silent, targets == IGNORE_INDEX)


def test_a_batch_of_ignored_targets_costs_nothing() -> None:
    logits, targets = random_batch()
    total, count = next_token_loss(logits, torch.full_like(targets, IGNORE_INDEX))
    assert (total.item(), count.item()) == (0.0, 0)


def test_the_gradient_is_probability_minus_one_hot() -> None:
    logits, targets = random_batch()
    logits.requires_grad_()
    next_token_loss(logits, targets)[0].backward()
    wanted = logits.detach().softmax(-1) - torch.nn.functional.one_hot(targets, 11)
    torch.testing.assert_close(logits.grad, wanted, rtol=1e-5, atol=1e-6)  # fp32 rounding


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.integers(0, 8), max_size=4), st.integers(0, 10**6))
def test_sums_and_counts_add_up_exactly_over_any_split(cuts: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    favourites = torch.randint(5, (8, 3), generator=generator)
    targets = torch.randint(5, (8, 3), generator=generator)
    targets[torch.rand(8, 3, generator=generator) < 0.2] = IGNORE_INDEX
    # a favourite ahead by 1000 makes each loss exactly 0 or 1000, so that sums have no rounding
    logits = 1000.0 * torch.nn.functional.one_hot(favourites, 5)
    total, count = next_token_loss(logits, targets)
    edges = [0, *sorted(cuts), 8]
    parts = [next_token_loss(logits[a:b], targets[a:b]) for a, b in pairwise(edges) if a < b]
    assert sum(part[0].item() for part in parts) == total.item()
    assert sum(part[1].item() for part in parts) == count.item()
    missed = (favourites != targets) & (targets != IGNORE_INDEX)
    assert total.item() == 1000 * missed.sum().item()


def test_random_losses_add_up_over_splits() -> None:
    logits, targets = random_batch()
    whole = next_token_loss(logits, targets)[0]
    parts = sum(next_token_loss(logits[i : i + 1], targets[i : i + 1])[0] for i in range(4))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=0)  # 24 additions in fp32


def test_bf16_logits_are_summed_in_fp32() -> None:
    logits, targets = random_batch()
    rounded = logits.bfloat16()
    total, _ = next_token_loss(rounded, targets)
    assert total.dtype == torch.float32
    assert math.isclose(total.item(), direct_sum(rounded.float(), targets), rel_tol=1e-5)


@pytest.mark.parametrize(
    ("nats", "n_bytes", "bits"),
    [
        (math.log(2), 1, 1.0),  # one bit for one byte
        (math.log(256), 1, 8.0),  # no idea which byte
        (10 * math.log(4), 5, 4.0),  # 20 bits for 5 bytes
        (0.0, 3, 0.0),
        (1.0, 1, 1.4426950408889634),  # log2(e)
    ],
)
def test_bits_per_byte(nats: float, n_bytes: int, bits: float) -> None:
    assert math.isclose(bits_per_byte(nats, n_bytes), bits, rel_tol=1e-12)


def test_perplexity() -> None:
    assert perplexity(0.0) == 1.0
    assert math.isclose(perplexity(math.log(50257)), 50257, rel_tol=1e-12)
    assert math.isclose(perplexity(1.0), 2.718281828459045, rel_tol=1e-12)
    assert math.isfinite(perplexity(708.9))
    assert perplexity(709.5) == perplexity(1e9) == math.inf
