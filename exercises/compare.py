"""Computed against expected: how far apart two outputs are, and the first place that differs.

    distance = largest |computed - expected| / largest |expected|

Previous: child.py.  Next: check.py.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from exercises.exercise import Case, Outputs

SMALLEST = 1e-12


@dataclass(frozen=True)
class Difference:
    """The first output that is wrong: which one, how, and where it differs first."""

    output: str  # y, grad x, influence, ...
    kind: str  # shape, dtype, value
    got: Tensor
    expected: Tensor
    place: tuple[int, ...] = ()
    allowed: float = 0.0

    @property
    def computed_value(self) -> float:
        """The computed number at the place."""
        return float(self.got[self.place])

    @property
    def expected_value(self) -> float:
        """The expected number at the place."""
        return float(self.expected[self.place])


def scale_of(expected: Tensor) -> float:
    """Returns the largest absolute number of what is expected."""
    finite = expected[expected.isfinite()]
    return max(float(finite.abs().max()) if finite.numel() else 0.0, SMALLEST)


def distance(got: Tensor, expected: Tensor) -> float:
    """Returns the distance of two tensors; inf where shapes differ or one alone is not a number."""
    if got.shape != expected.shape:
        return math.inf
    a, b = got.double(), expected.double()
    same = (a == b) | (a.isnan() & b.isnan())
    gap = torch.where(same, 0.0, (a - b).abs())
    if not gap.isfinite().all():
        return math.inf
    return float(gap.max()) / scale_of(b)


def largest_distance(got: Outputs, expected: Outputs) -> float:
    """Returns the largest distance of the outputs of two runs of one case."""
    if got.keys() != expected.keys():
        return math.inf
    return max(distance(got[name], expected[name]) for name in expected)


def first_difference(case: Case, got: Outputs, expected: Outputs) -> Difference | None:
    """Returns the first output that is wrong, with its first wrong place; None: all are right."""
    for name, right in expected.items():
        mine = got[name]
        if mine.shape != right.shape:
            return Difference(name, "shape", mine, right)
        if name == "y" and not case.autocast and mine.dtype != case.inputs[0].dtype:
            return Difference(name, "dtype", mine, right.to(case.inputs[0].dtype))
        if distance(mine, right) > case.bound:
            allowed = case.bound * scale_of(right)
            a, b = mine.double(), right.double()
            wrong = ~((a - b).abs() <= allowed) & (a != b)
            place = tuple(wrong.nonzero()[0].tolist())
            return Difference(name, "value", a, b, place, allowed)
    return None
