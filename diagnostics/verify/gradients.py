"""Logits and gradients of a truncated model, and the comparison of two such sets of tensors.

    |g' - g| / |g|,   for each tensor; the table shows the one that is closest to its bound

Previous: call_counter.py.  Next: checks/attention.py.
"""

import torch
from torch import Tensor

from diagnostics.verify.check import Comparison
from diagnostics.verify.rounding import SAFETY, explain_bound, perturbed_layers
from gpt2 import GPT2Model
from loss import next_token_loss
from multiheadattention import explicit_attention

NamedTensors = dict[str, Tensor]


def forward_backward(model: GPT2Model, tokens: Tensor) -> NamedTensors:
    """Returns the logits, and the gradient of the summed loss for each parameter by name.

    tokens: (B, T); the loss is the plain one of loss.py, on the last T - 1 tokens.
    """
    logits = model(tokens[:, :-1])
    total, _ = next_token_loss(logits, tokens[:, 1:])
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(total, list(parameters.values()))
    return {"the logits": logits.detach(), **dict(zip(parameters, gradients, strict=True))}


def compare_gradients(
    model: GPT2Model, tokens: Tensor, fast: NamedTensors, plain: NamedTensors, dtype: torch.dtype
) -> Comparison:
    """Compares two results of `forward_backward`; the bound is that of roundings in dtype."""
    with perturbed_layers(model, dtype), explicit_attention():
        perturbed = forward_backward(model, tokens)
    return closest_to_bound(
        {name: relative_distance(fast[name], plain[name]) for name in plain},
        {name: SAFETY[dtype] * relative_distance(perturbed[name], plain[name]) for name in plain},
        explain_bound(dtype, "logits and gradients"),
    )


def closest_to_bound(distances: dict[str, float], bounds: dict[str, float], why: str) -> Comparison:
    """Returns the comparison of the tensor that is closest to its bound; nan counts as closest."""

    def fraction(name: str) -> float:
        used = distances[name] / bounds[name] if bounds[name] else distances[name]
        return used if used == used else float("inf")

    name = max(distances, key=fraction)
    return Comparison(distances[name], bounds[name], f"{why}, relative; closest: {name}")


def relative_distance(x: Tensor, y: Tensor) -> float:
    """Returns |x - y| / |y|, with the Euclidean norm over all numbers of two tensors."""
    x, y = x.double(), y.double()
    return float((x - y).norm() / y.norm())
