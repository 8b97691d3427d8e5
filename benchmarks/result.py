"""The result: medians, ranges, paired ratios and shares of the limit, and the file that keeps it.

Previous: roofline.py.  Next: scaling.py.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import Field, TypeAdapter

from benchmarks.interleaved import Measurement
from benchmarks.job import Job, Target
from benchmarks.roofline import Roofline
from run_directory.files import write_whole
from training.flops import operations
from training.machine import Machine

RESULT_FILE = "result.json"


@dataclass(frozen=True, kw_only=True)
class MedianAndRange:
    """The median, the lowest and the highest of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "MedianAndRange | None":
        """Summarizes values; returns None where there are none."""
        return cls(median=median(values), low=min(values), high=max(values)) if values else None


@dataclass(frozen=True, kw_only=True)
class Row:
    """The figures of one candidate: a row of the table."""

    name: str
    group: str
    x: float
    rate: MedianAndRange | None  # units per second
    speedup: Annotated[  # of the project: its rate / this one's in the same round
        MedianAndRange | None, Field(serialization_alias="ahead")
    ]
    batches: float | None  # per second, for loading only
    operations: float | None  # per second
    limit: float | None  # units per second that the machine could reach
    memory: int  # the peak in bytes
    build_seconds: float
    warmup_seconds: float
    precision: str
    note: str
    error: Annotated[str | None, Field(serialization_alias="died")]

    @property
    def share(self) -> float | None:
        """The median rate as a share of the limit."""
        return self.rate.median / self.limit if self.rate and self.limit else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run of `benchmark`, with every round.

    Some keys of result.json are older than the names here; serialization_alias has them.
    """

    target: Target
    unit: str  # tokens/s or MB/s
    command: str
    machine: Machine
    model: str
    roofline: Annotated[Roofline | None, Field(serialization_alias="limits")]
    notes: Annotated[list[str], Field(serialization_alias="said")]  # what was left out, and why
    rows: list[Row]
    measurements: Annotated[list[Measurement], Field(serialization_alias="measured")]

    def write(self, folder: Path) -> None:
        """Writes result.json into a folder, whole or not at all."""
        text = TypeAdapter(Result).dump_json(self, indent=1, by_alias=True)
        write_whole(folder / RESULT_FILE, lambda path: path.write_bytes(text))


def paired_ratios(first: list[float], other: list[float]) -> list[float]:
    """Returns first / other for each round that both have."""
    return [a / b for a, b in zip(first, other, strict=False)]


def batch_tokens(job: Job) -> int:
    """Returns the number of tokens in a batch."""
    return job.batch_size * job.model.context_length


def operations_per_token(job: Job) -> float | None:
    """Returns the operations per token of targets that spend their time on matmuls."""
    if job.target in ("training", "scaling"):
        return operations(job.model, job.model.context_length).training
    return None


def attainable_rate(
    job: Job, precision: str, cost: float | None, limits: dict[str, float]
) -> float | None:
    """Returns the units per second that the machine could reach, by its roofline."""
    if cost is None:
        return limits.get(job.group)
    return limits[precision] / cost if precision in limits else None


def make_rows(measurements: list[Measurement], unit: float, limits: dict[str, float]) -> list[Row]:
    """Returns the rows of the table, each compared with the first one of its group.

    Args:
        measurements: all candidates, those of the project first in their groups.
        unit: what rates are divided by, 1e6 for MB/s.
        limits: operations per second by precision, or units per second by group.
    """
    first: dict[str, Measurement] = {}
    rows = []
    for measurement in measurements:
        job, ready = measurement.job, measurement.ready
        base = first.setdefault(job.group, measurement)
        is_compared = base is not measurement and job.target != "scaling"
        cost = operations_per_token(job)
        rate = MedianAndRange.of([rate / unit for rate in measurement.rates()])
        precision = ready.precision if ready else job.precision
        ratios = paired_ratios(base.rates(), measurement.rates()) if is_compared else []
        per_batch = batch_tokens(job) if job.target == "loading" else None
        rows.append(
            Row(
                name=job.name,
                group=job.group,
                x=job.x,
                rate=rate,
                speedup=MedianAndRange.of(ratios),
                batches=rate.median / per_batch if rate and per_batch else None,
                operations=rate.median * unit * cost if rate and cost else None,
                limit=attainable_rate(job, precision, cost, limits),
                memory=max((round.memory for round in measurement.rounds), default=0),
                build_seconds=ready.build_seconds if ready else 0.0,
                warmup_seconds=ready.warmup_seconds if ready else 0.0,
                precision=precision,
                note=ready.note if ready else "",
                error=measurement.error,
            )
        )
    return rows
