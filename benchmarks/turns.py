"""Everyone in turn: A B C A B C ..., each in a process of its own that stays alive.

A machine's speed drifts by the minute. Rounds that lie side by side meet the same drift, so the
ratio of two contenders is taken round by round.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from pydantic import TypeAdapter

from benchmarks.job import Job, Profile, Ready, Round
from benchmarks.limits import Limits

ROOT = Path(__file__).resolve().parent.parent
PAUSE = 0.3  # seconds between rounds, in which the threads of the last one go to sleep
PATIENCE = 10  # seconds for a worker to end by itself

Answer = TypeVar("Answer", Ready, Round, Profile, Limits)
Progress = Callable[[str], None]  # is told what has been done


class WorkerDied(RuntimeError):
    """A process ended before it had answered."""


class Worker:
    """The parent's end of a pipe. Use as a context manager."""

    def __init__(self, job: Job, scratch: Path) -> None:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        self.log = folder / "log.txt"
        self.job = replace(job, scratch=str(folder))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.say(TypeAdapter(Job).dump_json(self.job))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            self.process.wait(timeout=0 if kind else PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def say(self, line: bytes) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerDied(self.last_words()) from None

    def ask(self, request: str, kind: type[Answer]) -> Answer:
        """Waits for the answer. Raises WorkerDied where none comes."""
        self.say(request.encode())
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise WorkerDied(self.last_words())
        return TypeAdapter(kind).validate_json(line)

    def last_words(self) -> str:
        """The last line that names an error, or the last one at all."""
        code = self.process.wait()
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        errors = [line for line in said if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        if code < 0:
            return f"stopped by signal {-code}" + " (is memory short?)" * (code == -9)
        return (errors or said or [f"exit status {code}"])[-1][:300]


class Contestant(Protocol):
    """What can take part in turns."""

    job: Job

    def ask(self, request: str, kind: type[Answer]) -> Answer: ...


@dataclass(kw_only=True)
class Measured:
    """All that is known about one contender."""

    job: Job
    ready: Ready | None = None
    rounds: list[Round] = field(default_factory=list)
    died: str | None = None  # its last words
    profile: Profile | None = None

    def rates(self) -> list[float]:
        """Units a second, round by round."""
        return [round.rate for round in self.rounds]


def measure(
    jobs: Sequence[Job], n_rounds: int, scratch: Path, progress: Progress, *, profile: bool
) -> list[Measured]:
    """Starts a process for each job, and lets them work in turn."""
    with ExitStack() as alive:
        workers = [alive.enter_context(Worker(job, scratch)) for job in jobs]
        return in_turns(workers, n_rounds, progress, profile=profile)


def in_turns(
    contestants: Sequence[Contestant],
    n_rounds: int,
    progress: Progress,
    *,
    profile: bool = False,
    pause: float = PAUSE,
) -> list[Measured]:
    """Warms up one after the other, then goes round and round; whoever dies is left out."""
    measured = [Measured(job=contestant.job) for contestant in contestants]
    requests = ["prepare", *["round"] * n_rounds, *["profile"] * profile]
    for request in requests:
        for contestant, seen in zip(contestants, measured, strict=True):
            if seen.died is None:
                progress(f"{seen.job.name}: {request}")
                time.sleep(pause)
                try:
                    take(contestant, seen, request)
                except WorkerDied as death:
                    seen.died = str(death)
    return measured


def take(contestant: Contestant, seen: Measured, request: str) -> None:
    """One request, and its answer put where it belongs."""
    if request == "prepare":
        seen.ready = contestant.ask(request, Ready)
    elif request == "round":
        seen.rounds.append(contestant.ask(request, Round))
    else:
        seen.profile = contestant.ask(request, Profile)


def limits_of(job: Job, scratch: Path) -> Limits:
    """Measured in a process of its own as well. Raises WorkerDied where it fails."""
    with Worker(job, scratch) as worker:
        return worker.ask("limits", Limits)
