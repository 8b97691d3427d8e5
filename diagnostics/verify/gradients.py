"""Logits and gradients of the first blocks, and how far they may lie apart.

    |g' - g| / |g|,   for each parameter; the table shows what comes nearest to its bound

Previous: witness.py.  Next: checks/attention.py.
"""

import torch
from torch import Tensor

from diagnostics.verify.check import Finding
from diagnostics.verify.rounding import SAFETY, reason, rounded
from gpt2 import GPT2Model
from loss import next_token_loss
from multiheadattention import explicit_attention

Parts = dict[str, Tensor]


def forward_backward(model: GPT2Model, tokens: Tensor) -> Parts:
    """Logits, and the gradient of the summed loss by each parameter; the loss is written out."""
    logits = model(tokens[:, :-1])
    total, _ = next_token_loss(logits, tokens[:, 1:])
    named = dict(model.named_parameters())
    found = torch.autograd.grad(total, list(named.values()))
    return {"the logits": logits.detach(), **dict(zip(named, found, strict=True))}


def compare(
    model: GPT2Model, tokens: Tensor, fast: Parts, plain: Parts, dtype: torch.dtype
) -> Finding:
    """What two ways of `forward_backward` gave."""
    with rounded(model, dtype), explicit_attention():
        disturbed = forward_backward(model, tokens)
    return worst(
        {name: distance(fast[name], plain[name]) for name in plain},
        {name: SAFETY[dtype] * distance(disturbed[name], plain[name]) for name in plain},
        reason(dtype, "logits and gradients"),
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
