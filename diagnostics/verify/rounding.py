"""Rounding: how far two ways of computing the same thing may lie apart.

    y -> y (1 + s u)      s = +1 or -1, drawn for every number;  u = 2^-24 in fp32, 2^-8 in bf16

Two correct ways differ because they round in different places. What that does to the result
depends on the model: a deep or badly scaled one amplifies it. So it is measured on the model
itself: the formula runs once more with every layer's output moved by one rounding error u, and
the distance to the undisturbed result is the unit in which bounds are stated. This is Monte Carlo
arithmetic, Parker 1997, with one rounding for each layer instead of each operation. A factor pays
for the others: in fp32 the sums round as well, in bf16 they are kept in fp32.
Previous: command.py.  Next: subject.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gelu import GELU
from gpt2 import GPT2Model
from layer_norm import LayerNorm
from multiheadattention import CausalSoftmax, explicit_attention

SAFETY = {torch.float32: 8, torch.bfloat16: 4}
LAYERS = (nn.Embedding, nn.Linear, LayerNorm, GELU, CausalSoftmax)
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def unit(dtype: torch.dtype) -> float:
    """The largest relative error of one rounding: half the distance from 1 to the next number."""
    return torch.finfo(dtype).eps / 2


def moved(x: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Every number up or down by one rounding error; its gradient as well."""
    up = torch.randint(2, x.shape, generator=generator, device=x.device, dtype=torch.int8)
    return x * (1 + (2 * up - 1) * unit(dtype)).to(torch.float32)


@contextmanager
def rounded(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Inside this context every layer's output, and every score, is moved by one rounding error."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(1)

    def move_output(layer: nn.Module, given: tuple, y: Tensor) -> Tensor:
        return moved(y, dtype, generator)

    def move_scores(layer: nn.Module, given: tuple) -> tuple:
        return moved(given[0], dtype, generator), *given[1:]

    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS)]
    hooks = [layer.register_forward_hook(move_output) for layer in layers]
    hooks += [
        layer.register_forward_pre_hook(move_scores)
        for layer in layers
        if isinstance(layer, CausalSoftmax)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def largest(x: Tensor, y: Tensor) -> float:
    """The largest difference of two tensors of one shape; nan where one has it."""
    if x.shape != y.shape:
        raise ValueError(f"{tuple(x.shape)} cannot equal {tuple(y.shape)}")
    return float((x.detach().double() - y.detach().double()).abs().max())


@torch.inference_mode()
def logit_bound(model: GPT2Model, tokens: Tensor, logits: Tensor, dtype: torch.dtype) -> float:
    """For logits (B, T, V) of tokens, which the formula gave."""
    with rounded(model, dtype), explicit_attention():
        return SAFETY[dtype] * largest(model(tokens), logits)


def reason(dtype: torch.dtype, what: str = "the logits", times: int = 1) -> str:
    """Why such a bound."""
    factor = times * SAFETY[dtype]
    return f"{factor} x what one {NAMES[dtype]} rounding in every layer moves {what}"
