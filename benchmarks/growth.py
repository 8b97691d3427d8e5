"""Does a cost grow faster than the operations do? Slopes between two logarithmic axes.

slope = d log(cost) / d log(size)        1: twice as much for twice the size; 2: four times
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.turns import Measured
from training.flops import operations


@dataclass(frozen=True, kw_only=True)
class Series:
    """One size grows, the others stay."""

    name: str
    x: list[float]
    seconds: list[float]  # a step
    operations: list[float]  # a step, on paper
    memory: list[int]  # bytes

    def slopes(self) -> tuple[float, float] | None:
        """Of the seconds and of the operations; None for a single point."""
        if len(self.x) < 2:
            return None
        return slope(self.x, self.seconds), slope(self.x, self.operations)


def series_of(measured: Sequence[Measured]) -> list[Series]:
    """The points that were measured, by series, from small to large."""
    found = []
    for name in dict.fromkeys(seen.job.group for seen in measured):
        points = [seen for seen in measured if seen.job.group == name and seen.rounds]
        points.sort(key=lambda seen: seen.job.x)
        found.append(
            Series(
                name=name,
                x=[seen.job.x for seen in points],
                seconds=[seconds_of_a_step(seen) for seen in points],
                operations=[operations_of_a_step(seen) for seen in points],
                memory=[max(round.memory for round in seen.rounds) for seen in points],
            )
        )
    return [series for series in found if series.x]


def seconds_of_a_step(seen: Measured) -> float:
    """The middle of the rounds."""
    rates = sorted(seen.rates())
    middle = (rates[len(rates) // 2] + rates[(len(rates) - 1) // 2]) / 2
    return seen.job.batch_size * seen.job.model.context_length / middle


def operations_of_a_step(seen: Measured) -> float:
    """Of a training step on paper."""
    length = seen.job.model.context_length
    return operations(seen.job.model, length).training * seen.job.batch_size * length


def slope(x: Sequence[float], cost: Sequence[float]) -> float:
    """Of the straight line through the logarithms, by least squares."""
    logs = [(math.log(a), math.log(b)) for a, b in zip(x, cost, strict=True)]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    spread = sum((a - mean_x) ** 2 for a, _ in logs)
    return sum((a - mean_x) * (b - mean_y) for a, b in logs) / spread
