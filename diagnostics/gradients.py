"""Gradients of the first blocks, and how far they may lie apart.

    |g' - g| / |g|,   for each parameter; the table shows the one that comes nearest to its bound

Read before: witness.py.  Read next: checks/attention.py.
"""

import torch
from torch import Tensor

from diagnostics.check import Finding
from diagnostics.rounding import SAFETY, reason, rounded
from gpt2 import GPT2Model
from loss import next_token_loss
from multiheadattention import explicit_attention

Gradients = dict[str, Tensor]


def gradients(model: GPT2Model, tokens: Tensor) -> Gradients:
    """By each parameter, of the summed loss, with output layer and loss written out."""
    logits = model(tokens[:, :-1])
    total, _ = next_token_loss(logits, tokens[:, 1:])
    named = dict(model.named_parameters())
    found = torch.autograd.grad(total, list(named.values()))
    return dict(zip(named, found, strict=True))


def compare_gradients(
    model: GPT2Model, tokens: Tensor, fast: Gradients, plain: Gradients, dtype: torch.dtype
) -> Finding:
    """The parameter whose distance is largest, measured by its own bound."""
    with rounded(model, dtype), explicit_attention():
        disturbed = gradients(model, tokens)
    return worst(
        {name: distance(fast[name], plain[name]) for name in plain},
        {name: SAFETY[dtype] * distance(disturbed[name], plain[name]) for name in plain},
        reason(dtype, "the gradients"),
    )


def worst(distances: dict[str, float], bounds: dict[str, float], why: str) -> Finding:
    """The one that comes nearest to its bound; not a number is the nearest of all."""
    def share(name: str) -> float:
        found = distances[name] / bounds[name] if bounds[name] else distances[name]
        return found if found == found else float("inf")

    name = max(distances, key=share)
    return Finding(distances[name], bounds[name], f"{why}, relative; nearest: {name}")


def distance(x: Tensor, y: Tensor) -> float:
    """Relative to y, over all its numbers."""
    x, y = x.double(), y.double()
    return float((x - y).norm() / y.norm())
