"""Comparison: the difference of a fast path from its reference, and the bound of the difference.

Of many tensors the table shows the one that is closest to its bound.
Previous: model_under_test.py.  Next: check.py.
"""

from dataclasses import dataclass

import torch

from diagnostics.verify.gradients import NamedTensors, relative_distances
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import SAFETY, explain_bound


@dataclass(frozen=True)
class Comparison:
    """The difference of a fast path from its reference, its bound, and the bound's reason."""

    difference: float
    bound: float
    why: str


def compare_gradients(
    under_test: ModelUnderTest, fast: NamedTensors, plain: NamedTensors, dtype: torch.dtype
) -> Comparison:
    """Compares two results of `forward_backward` on a copy of the truncated model.

    The bound is that of roundings in dtype, fp32 or bf16.
    """
    is_fp32 = dtype == torch.float32
    effects = under_test.fp32_effects if is_fp32 else under_test.bf16_effects
    why = explain_bound(dtype, "logits and gradients")
    return compare_tensors(fast, plain, effects, SAFETY[dtype], why)


def compare_tensors(
    fast: NamedTensors, plain: NamedTensors, effects: dict[str, float], safety: float, why: str
) -> Comparison:
    """Compares tensors by name; the bound of each is `safety` times the effect of roundings."""
    bounds = {name: safety * effect for name, effect in effects.items()}
    return closest_to_bound(relative_distances(fast, plain), bounds, f"{why}, relative")


def closest_to_bound(
    differences: dict[str, float], bounds: dict[str, float], why: str
) -> Comparison:
    """Returns the comparison that is closest to its bound; nan counts as closest."""

    def fraction(name: str) -> float:
        used = differences[name] / bounds[name] if bounds[name] else differences[name]
        return used if used == used else float("inf")

    name = max(differences, key=fraction)
    return Comparison(differences[name], bounds[name], f"{why}; closest: {name}")
