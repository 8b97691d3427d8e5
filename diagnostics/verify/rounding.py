"""Rounding: how much two correct ways of computing the same thing may differ.

    y -> y (1 + s u)      s = +1 or -1, drawn for every number;  u = 2^-24 in fp32, 2^-8 in bf16

Two correct ways differ because they round in different places. The effect on the result depends
on the model: a deep or badly scaled one amplifies it. So the effect is measured on the model
itself: the formula runs once more with every layer's output perturbed by one rounding error u, and
the distance from the unperturbed result is the unit in which bounds are stated. This is Monte
Carlo arithmetic, Parker 1997, with one rounding per layer instead of one per operation. A safety
factor pays for the other roundings: in fp32 the sums round as well, in bf16 sums are fp32.
Previous: command.py.  Next: gradients.py.
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


def unit_roundoff(dtype: torch.dtype) -> float:
    """Returns the largest relative error of one rounding: half of the machine epsilon."""
    return torch.finfo(dtype).eps / 2


def perturb(x: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Returns x with every number one rounding error larger or smaller; its gradient as well."""
    up = torch.randint(2, x.shape, generator=generator, device=x.device, dtype=torch.int8)
    return x * (1 + (2 * up - 1) * unit_roundoff(dtype)).to(torch.float32)


@contextmanager
def perturbed_layers(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Inside this context every layer's output and every attention score is perturbed."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(1)

    def perturb_output(layer: nn.Module, inputs: tuple, y: Tensor) -> Tensor:
        return perturb(y, dtype, generator)

    def perturb_scores(layer: nn.Module, inputs: tuple) -> tuple:
        return perturb(inputs[0], dtype, generator), *inputs[1:]

    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS)]
    hooks = [layer.register_forward_hook(perturb_output) for layer in layers]
    hooks += [
        layer.register_forward_pre_hook(perturb_scores)
        for layer in layers
        if isinstance(layer, CausalSoftmax)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def to_fp64(x: Tensor) -> Tensor:
    """Returns a copy in double precision, on the CPU, for MPS has no float64."""
    return x.detach().cpu().double()


def max_abs_diff(x: Tensor, y: Tensor) -> float:
    """Returns the largest absolute difference of two tensors; nan where one of them has nan.

    Raises ValueError where their shapes differ.
    """
    if x.shape != y.shape:
        raise ValueError(f"{tuple(x.shape)} cannot equal {tuple(y.shape)}")
    return float((to_fp64(x) - to_fp64(y)).abs().max())


@torch.inference_mode()
def logit_bound(model: GPT2Model, tokens: Tensor, logits: Tensor, dtype: torch.dtype) -> float:
    """Returns how much logits may differ from those that the formula gives for tokens.

    tokens: (B, T), logits: (B, T, V); the bound is absolute and allows for roundings in dtype.
    """
    with perturbed_layers(model, dtype), explicit_attention():
        return SAFETY[dtype] * max_abs_diff(model(tokens), logits)


def explain_bound(dtype: torch.dtype, what: str = "the logits", times: int = 1) -> str:
    """Returns the reason of a bound that was measured by perturbing every layer."""
    factor = times * SAFETY[dtype]
    return f"{factor} x the effect of one {NAMES[dtype]} rounding in every layer on {what}"
