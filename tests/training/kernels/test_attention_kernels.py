"""The formula for short texts, and the gradient in tiles, are those of attention."""

import math
from typing import Literal

import pytest
import torch
from torch import nn

from cfg_gpt2 import GPT2Config, TrainConfig, preset
from gpt2 import GPT2Model
from multiheadattention import MultiHeadAttention, explicit_attention
from training.choose_runtime import choose_runtime
from training.kernels import attention, use_kernels
from training.kernels.attention import (
    SHORT,
    ShortAttention,
    TiledAttention,
    attention_gradients,
    prefers_explicit,
)

HEAD = 16
TILED: dict[type[nn.Module], type[nn.Module]] = {MultiHeadAttention: TiledAttention}
CONFIG = GPT2Config(
    vocab_size=11, context_length=600, n_layer=1, n_head=2, n_embd=2 * HEAD, dropout=0.0
)


def formula(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Causal attention in the dtype of q, and the log-sum of each row of scores."""
    later = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool).triu(1)
    scores = (q @ k.mT / math.sqrt(q.size(-1))).masked_fill(later, -math.inf)
    return scores.softmax(dim=-1) @ v, scores.logsumexp(dim=-1)


def random_tensors(length: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Returns q, k, v and dL/doutput."""
    torch.manual_seed(length)
    return [torch.randn(2, 3, length, HEAD).to(dtype) for _ in range(4)]


def grad_of(leaf: torch.Tensor) -> torch.Tensor:
    """Returns the gradient that a backward pass has left."""
    assert leaf.grad is not None
    return leaf.grad


def fp64_gradients(*qkv: torch.Tensor, grad_output: torch.Tensor) -> list[torch.Tensor]:
    """Returns autograd's gradients of the formula by q, k and v, in fp64."""
    leaves = [x.double().requires_grad_() for x in qkv]
    formula(*leaves)[0].backward(grad_output.double())
    return [grad_of(x) for x in leaves]


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11, 16, 17, 40])  # one tile, whole ones, a rest
def test_the_gradients_are_those_of_the_formula(length: int) -> None:
    q, k, v, grad_output = random_tensors(length, torch.float32)
    found = attention_gradients(q, k, v, *formula(q, k, v), grad_output, tile_size=4)
    expected = fp64_gradients(q, k, v, grad_output=grad_output)
    for gradient, right in zip(found, expected, strict=True):
        # fp32 carries 7 digits; sums of up to 40 terms of size 1 cost one or two of them
        torch.testing.assert_close(gradient, right.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sharp", [1, 4])  # scores up to 4, and up to 60
def test_in_bf16_they_are_about_as_exact_as_the_formula(sharp: int) -> None:
    q, k, v, grad_output = random_tensors(600, torch.bfloat16)
    q, k = sharp * q, sharp * k
    layer = TiledAttention(CONFIG)
    right = fp64_gradients(q, k, v, grad_output=grad_output)
    errors = {}
    for attend in (layer.attend_explicit, layer.attend_fused):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        attend(*leaves).backward(grad_output)
        errors[attend.__name__] = torch.stack(
            [(grad_of(leaf) - x).norm() / x.norm() for leaf, x in zip(leaves, right, strict=True)]
        )
    # both round scores and weights to bf16; the tiles' weights meet the kernel's own result,
    # which came from weights in fp32, so for large scores they agree somewhat less
    assert (errors["attend_fused"] < 1.6 * errors["attend_explicit"]).all(), errors


def test_a_model_learns_what_it_learns_without_tiles() -> None:
    torch.manual_seed(0)
    model = GPT2Model(CONFIG)
    tokens = torch.randint(CONFIG.vocab_size, (2, 600))
    found = []
    for in_tiles in (False, True):
        if in_tiles:
            use_kernels(model, TILED)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(tokens).float()
        loss = logits.logsumexp(-1).mean() + logits.var()
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert torch.equal(found[0][0], found[1][0])  # the forward pass is the same kernel
    for plain, tiled in zip(found[0][1:], found[1][1:], strict=True):
        # each gradient is a sum of numbers rounded to bf16, in its scale
        assert (plain - tiled).norm() <= 2**-5 * plain.norm() + 1e-7


@pytest.mark.parametrize("why", ["fp32", "mask", "dropout", "keys", "short"])
def test_what_the_kernel_does_not_do_goes_to_torch(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = TiledAttention(CONFIG)
    length = 8 if why == "short" else SHORT + 8
    q, k, v, _ = random_tensors(length, torch.float32 if why == "fp32" else torch.bfloat16)
    layer.attention_dropout.p = 0.1 if why == "dropout" else 0.0
    mask = torch.zeros(length, length, dtype=q.dtype) if why == "mask" else None
    if why == "keys":
        q = q[..., 4:, :]
    monkeypatch.setattr(attention, "TiledAttentionFunction", None)
    assert layer.attend_fused(q, k, v, mask).shape == q.shape


def test_names_stay_and_explicit_attention_still_works() -> None:
    model = GPT2Model(CONFIG)
    names, layer = list(model.state_dict()), model.blocks[0].attention
    use_kernels(model, TILED)
    assert list(model.state_dict()) == names
    assert type(layer) is TiledAttention
    seen = []
    layer.causal_softmax.register_forward_hook(lambda *_: seen.append(1))
    with explicit_attention(), torch.autocast("cpu", torch.bfloat16):
        model(torch.zeros(1, 600, dtype=torch.long))
    assert seen


@pytest.mark.parametrize(
    ("tiles", "precision", "compiles", "expected"),
    [
        (True, "bf16", "on", TiledAttention),
        (True, "bf16", "off", ShortAttention),  # without a compiler PyTorch's own is faster
        (True, "fp32", "on", MultiHeadAttention),
        (False, "bf16", "on", ShortAttention),
    ],
)
def test_it_is_chosen_for_compiled_blocks_in_bf16_on_processors_with_tiles(
    tiles: bool,
    precision: Literal["fp32", "bf16"],
    compiles: Literal["on", "off"],
    expected: type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    config = TrainConfig(device="cpu", precision=precision, compile=compiles)
    model = choose_runtime(config, preset("gpt2").model).prepare(GPT2Model(CONFIG))
    assert type(model.blocks[0].attention) is expected


@pytest.mark.parametrize(
    ("length", "dtype", "explicit"),
    [
        (SHORT, torch.bfloat16, True),
        (SHORT + 1, torch.bfloat16, False),
        (SHORT, torch.float32, False),
    ],
)
@pytest.mark.parametrize("kernel", [ShortAttention, TiledAttention])
def test_short_texts_in_bf16_on_a_cpu_go_by_the_formula(
    kernel: type[MultiHeadAttention], length: int, dtype: torch.dtype, explicit: bool
) -> None:
    layer = kernel(CONFIG)
    calls = []
    layer.causal_softmax.register_forward_hook(lambda *_: calls.append(1))
    q, k, v, _ = random_tensors(length, dtype)
    assert prefers_explicit(k) is explicit
    layer.attend_fused(q[..., -1:, :], k, v)
    assert bool(calls) is explicit
