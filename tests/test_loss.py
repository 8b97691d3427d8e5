import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import loss
from loss import IGNORE_INDEX, bits_per_byte, head_loss, next_token_loss, perplexity


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


def test_the_sum_is_minus_the_log_probability_of_the_targets():
    logits, targets = random_batch()
    total, count = next_token_loss(logits, targets)
    # fp32 against fp64: 7 digits, less two for the sum of 24
    assert math.isclose(total.item(), direct_sum(logits, targets), rel_tol=1e-5)
    assert count.item() == 24


def test_ignored_targets_count_neither_in_the_sum_nor_in_the_gradient():
    logits, targets = random_batch()
    targets[0, :3] = targets[2] = IGNORE_INDEX
    logits.requires_grad_()
    total, count = next_token_loss(logits, targets)
    total.backward()
    assert count.item() == 15
    assert math.isclose(total.item(), direct_sum(logits, targets), rel_tol=1e-5)
    silent = logits.grad.abs().sum(dim=-1) == 0
    assert torch.equal(silent, targets == IGNORE_INDEX)


def test_a_batch_of_ignored_targets_costs_nothing():
    logits, targets = random_batch()
    total, count = next_token_loss(logits, torch.full_like(targets, IGNORE_INDEX))
    assert (total.item(), count.item()) == (0.0, 0)


def test_the_gradient_is_probability_minus_one_hot():
    logits, targets = random_batch()
    logits.requires_grad_()
    next_token_loss(logits, targets)[0].backward()
    wanted = logits.detach().softmax(-1) - torch.nn.functional.one_hot(targets, 11)
    torch.testing.assert_close(logits.grad, wanted, rtol=1e-5, atol=1e-6)  # fp32 rounding


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.integers(0, 8), max_size=4), st.integers(0, 10**6))
def test_sums_and_counts_add_up_exactly_over_any_split(cuts: list[int], seed: int):
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


def test_random_losses_add_up_over_splits():
    logits, targets = random_batch()
    whole = next_token_loss(logits, targets)[0]
    parts = sum(next_token_loss(logits[i : i + 1], targets[i : i + 1])[0] for i in range(4))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=0)  # 24 additions in fp32


def test_bf16_logits_are_summed_in_fp32():
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
def test_bits_per_byte(nats: float, n_bytes: int, bits: float):
    assert math.isclose(bits_per_byte(nats, n_bytes), bits, rel_tol=1e-12)


def test_perplexity():
    assert perplexity(0.0) == 1.0
    assert math.isclose(perplexity(math.log(50257)), 50257, rel_tol=1e-12)
    assert math.isclose(perplexity(1.0), 2.718281828459045, rel_tol=1e-12)
    assert math.isfinite(perplexity(708.9))
    assert perplexity(709.5) == perplexity(1e9) == math.inf


def features_of(vocab_size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Features (3, 7, C), a head (V, C), targets (3, 7), some of which do not count."""
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(3, 7, 16, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab_size, 16, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(vocab_size, (3, 7), generator=generator)
    targets[1, 2:5] = targets[2, 0] = IGNORE_INDEX
    return features, weight, targets


@pytest.mark.parametrize("vocab_size", [2, 63, 64, 65])
@pytest.mark.parametrize(("product", "softmax"), [(1 << 26, 1 << 22), (700, 150), (1, 1)])
def test_head_loss_is_the_written_out_loss_in_fp64(
    monkeypatch: pytest.MonkeyPatch, vocab_size: int, product: int, softmax: int
):
    monkeypatch.setattr(loss, "PRODUCT", product)
    monkeypatch.setattr(loss, "SOFTMAX", softmax)
    monkeypatch.setattr(loss, "ROWS", 2)
    monkeypatch.setattr(loss, "COLUMNS", 4)  # so that rows and vocabulary are cut, and leave a rest
    features, weight, targets = features_of(vocab_size, torch.float64)
    log_p = (features @ weight.T).log_softmax(-1)
    counted = targets != IGNORE_INDEX
    plain = -log_p[counted][range(17), targets[counted]].sum()
    wanted = torch.autograd.grad(0.3 * plain, (features, weight))
    total, count = head_loss(features, weight, targets)
    found = torch.autograd.grad(0.3 * total, (features, weight), retain_graph=True)
    again = torch.autograd.grad(0.3 * total, (features, weight))
    assert count.item() == 17
    torch.testing.assert_close(total, plain, rtol=1e-12, atol=0)
    for ours, same, theirs in zip(found, again, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        assert torch.equal(ours, same)


def test_head_loss_in_bf16_errs_no_more_than_autocast_does():
    features, weight, targets = features_of(300, torch.float32)
    exact, _ = head_loss(features, weight, targets)
    wanted = torch.autograd.grad(exact, (features, weight))
    errors = []
    for way in ("head", "plain"):
        with torch.autocast("cpu", torch.bfloat16):
            if way == "head":
                total, _ = head_loss(features, weight, targets)
            else:
                logits = torch.nn.functional.linear(features, weight)
                total, _ = next_token_loss(logits, targets)
        found = torch.autograd.grad(total, (features, weight))
        assert total.dtype == torch.float32
        assert [g.dtype for g in found] == [torch.float32, torch.float32]
        errors.append([(g - w).norm() / w.norm() for g, w in zip(found, wanted, strict=True)])
        # 2^-9 of each logit, some 4 in size, the errors averaging out over 17 targets
        assert math.isclose(total.item(), exact.item(), rel_tol=2e-3)
    for ours, theirs in zip(*errors, strict=True):
        assert ours < 1.1 * theirs < 0.02


def test_head_loss_needs_no_gradient_to_be_measured():
    features, weight, targets = features_of(11, torch.float32)
    with torch.inference_mode():
        measured, _ = head_loss(features, weight, targets)
    assert torch.equal(measured, head_loss(features, weight, targets)[0])
