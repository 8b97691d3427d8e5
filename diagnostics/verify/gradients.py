"""Gradients: values and gradients of a computation, and how far two sets of them are apart.

    |g' - g| / |g|     for each tensor, with the Euclidean norm over all its numbers

Previous: rounding.py.  Next: model_under_test.py.
"""

import math
from collections import Counter

import torch
from torch import Tensor

from diagnostics.verify.rounding import perturbed_layers, to_fp64
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


def rounding_effects(
    model: GPT2Model, tokens: Tensor, exact: NamedTensors, dtype: torch.dtype
) -> dict[str, float]:
    """Returns, by name, the relative effect of a rounding in every layer on logits and gradients.

    `exact` is the result of `forward_backward` by the formula in fp32.
    """
    with perturbed_layers(model, dtype), explicit_attention():
        return relative_distances(forward_backward(model, tokens), exact)


def relative_distances(first: NamedTensors, second: NamedTensors) -> dict[str, float]:
    """Returns |x - y| / |y| by name, for x in the first and y in the second set of tensors."""
    return {name: relative_distance(first[name], second[name]) for name in second}


def relative_distance(x: Tensor, y: Tensor) -> float:
    """Returns |x - y| / |y|, with the Euclidean norm over all numbers of two tensors.

    Two tensors of zeros are equal: with one key, attention has no gradient for its queries.
    """
    x, y = to_fp64(x), to_fp64(y)
    distance, norm = float((x - y).norm()), float(y.norm())
    if distance == 0:
        return 0.0
    return distance / norm if norm else math.inf


def count_functions(output: Tensor) -> Counter[str]:
    """Returns how often each function occurs in the graph that autograd has built of a tensor.

    The name of a torch.autograd.Function F is "FBackward".
    """
    counts: Counter[str] = Counter()
    pending, visited = [output.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is not None and node not in visited:
            visited.add(node)
            counts[type(node).__name__] += 1
            pending += [previous for previous, _ in node.next_functions]
    return counts
