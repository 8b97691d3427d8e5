"""How a cost grows with a size, compared with the number of operations: slopes on log-log axes.

    slope = d log(cost) / d log(size)        1: twice the cost for twice the size; 2: four times
Previous: result.py.  Next: report.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.interleaved import Measurement
from training.flops import operations


@dataclass(frozen=True, kw_only=True)
class Series:
    """Measurements in which one size grows and the others are constant."""

    name: str
    x: list[float]
    seconds: list[float]  # per step
    operations: list[float]  # per step, counted
    memory: list[int]  # the peak in bytes

    def slopes(self) -> tuple[float, float] | None:
        """Returns the slopes of seconds and of operations, or None for a single point."""
        if len(self.x) < 2:
            return None
        return slope(self.x, self.seconds), slope(self.x, self.operations)


def series_of(measurements: Sequence[Measurement]) -> list[Series]:
    """Returns the measured points by series, from small to large."""
    all_series = []
    for name in dict.fromkeys(one.job.group for one in measurements):
        points = [one for one in measurements if one.job.group == name and one.rounds]
        points.sort(key=lambda point: point.job.x)
        all_series.append(
            Series(
                name=name,
                x=[point.job.x for point in points],
                seconds=[seconds_per_step(point) for point in points],
                operations=[operations_per_step(point) for point in points],
                memory=[max(round.memory for round in point.rounds) for point in points],
            )
        )
    return [series for series in all_series if series.x]


def seconds_per_step(measurement: Measurement) -> float:
    """Returns the median over the rounds."""
    job = measurement.job
    return job.batch_size * job.model.context_length / median(measurement.rates())


def operations_per_step(measurement: Measurement) -> float:
    """Returns the operations of a training step, counted from the sizes."""
    job = measurement.job
    length = job.model.context_length
    return operations(job.model, length).training * job.batch_size * length


def slope(x: Sequence[float], cost: Sequence[float]) -> float:
    """Returns the slope of the least-squares line through the logarithms."""
    logs = [(math.log(a), math.log(b)) for a, b in zip(x, cost, strict=True)]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    sum_of_squares = sum((a - mean_x) ** 2 for a, _ in logs)
    return sum((a - mean_x) * (b - mean_y) for a, b in logs) / sum_of_squares
