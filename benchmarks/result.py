"""What came out: medians, ranges, ratios round by round, shares of the limit; and its file."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import TypeAdapter

from benchmarks.job import Job, Target
from benchmarks.limits import Limits
from benchmarks.turns import Measured
from run_directory.files import write_whole
from training.flops import operations
from training.machine import Machine

RESULT_FILE = "result.json"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A few figures: their middle and their ends."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread | None":
        """None where there is nothing."""
        return cls(median=median(values), low=min(values), high=max(values)) if values else None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in the table."""

    name: str
    group: str
    x: float
    rate: Spread | None  # units a second
    ahead: Spread | None  # the project's rate / this one's, in the same round
    batches: float | None  # a second, where loading them is all that is done
    operations: float | None  # a second
    limit: float | None  # units a second that the machine could reach
    memory: int  # bytes, the most there was
    build_seconds: float
    warmup_seconds: float
    precision: str
    note: str
    died: str | None

    @property
    def share(self) -> float | None:
        """Of the limit."""
        return self.rate.median / self.limit if self.rate and self.limit else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run of `benchmark`, with every round of it."""

    target: Target
    unit: str  # tokens/s or MB/s
    command: str
    machine: Machine
    model: str
    limits: Limits | None
    said: list[str]  # what was left out, and why
    rows: list[Row]
    measured: list[Measured]

    def write(self, folder: Path) -> None:
        """result.json, whole or not at all."""
        text = TypeAdapter(Result).dump_json(self, indent=1)
        write_whole(folder / RESULT_FILE, lambda path: path.write_bytes(text))


def ratios(first: list[float], other: list[float]) -> list[float]:
    """first / other in each round that both were in."""
    return [a / b for a, b in zip(first, other, strict=False)]


def loads(job: Job) -> bool:
    return job.target == "loading"


def n_tokens(job: Job) -> int:
    """In a batch."""
    return job.batch_size * job.model.context_length


def cost_of(job: Job) -> float | None:
    """Operations a token, where products are what the time is for."""
    if job.target in ("training", "scaling"):
        return operations(job.model, job.model.context_length).training
    return None


def limit_of(
    job: Job, precision: str, cost: float | None, limits: dict[str, float]
) -> float | None:
    """Units a second that the machine could reach."""
    if cost is None:
        return limits.get(job.group)
    return limits[precision] / cost if precision in limits else None


def rows_of(measured: list[Measured], unit: float, limits: dict[str, float]) -> list[Row]:
    """Rates in `unit` (1e6 for MB/s), compared with the first row of the same group.

    limits: operations a second by precision, or units a second by group.
    """
    first: dict[str, Measured] = {}
    rows = []
    for seen in measured:
        ready = seen.ready
        base = first.setdefault(seen.job.group, seen)
        compared = base is not seen and seen.job.target != "scaling"
        cost = cost_of(seen.job)
        rates = [rate / unit for rate in seen.rates()]
        rate = Spread.of(rates)
        precision = ready.precision if ready else seen.job.precision
        ahead = ratios(base.rates(), seen.rates()) if compared else []
        rows.append(
            Row(
                name=seen.job.name,
                group=seen.job.group,
                x=seen.job.x,
                rate=rate,
                ahead=Spread.of(ahead),
                batches=rate.median / n_tokens(seen.job) if rate and loads(seen.job) else None,
                operations=rate.median * unit * cost if rate and cost else None,
                limit=limit_of(seen.job, precision, cost, limits),
                memory=max((round.memory for round in seen.rounds), default=0),
                build_seconds=ready.build_seconds if ready else 0.0,
                warmup_seconds=ready.warmup_seconds if ready else 0.0,
                precision=precision,
                note=ready.note if ready else "",
                died=seen.died,
            )
        )
    return rows
