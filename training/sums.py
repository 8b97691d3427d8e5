"""Sums: what a loss returns of a batch, and how it becomes the metrics of a step.

    loss, count, sums  of each micro-batch and process  ->  added up  ->  divided by the count

Nothing is divided before all is added, so the metrics are the same however a step is cut.
Previous: training_data.py.  Next: flops.py.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from training.progress import Metrics

Sums = dict[str, Tensor]  # scalars, by the names of the metrics that they become
TOKENS = "tokens"  # the sum of the targets, of a loss that counts something else, such as pairs


def together(loss: Tensor, count: Tensor, sums: Sums) -> Tensor:
    """Returns a loss, its count and further sums in one tensor, (2 + len(sums),)."""
    return torch.stack([x.detach().to(loss.dtype) for x in (loss, count, *sums.values())])


def means(names: Iterable[str], sums: Iterable[float], count: float, prefix: str = "") -> Metrics:
    """Returns further sums divided by the count, by prefix and name; TOKENS is no mean."""
    pairs = zip(names, sums, strict=True)
    return {prefix + name: value / count for name, value in pairs if name != TOKENS}
