"""Interleaved rounds: A B C A B C ..., each candidate in a process of its own that stays alive.

The speed of a machine drifts within minutes. Adjacent rounds meet the same drift, so the ratio of
two candidates is taken round by round.
Previous: job.py.  Next: worker.py.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

from pydantic import Field, TypeAdapter

from benchmarks.job import Job, Profile, Ready, Round
from benchmarks.roofline import Roofline

ROOT = Path(__file__).resolve().parent.parent
PAUSE = 0.3  # seconds between rounds, in which the threads of the previous one go to sleep
EXIT_TIMEOUT = 10  # seconds for a worker to exit by itself

Answer = TypeVar("Answer", Ready, Round, Profile, Roofline)
Progress = Callable[[str], None]  # is called with the name of each request before it is sent


class WorkerFailed(RuntimeError):
    """A worker process ended before it had answered; the message is its error."""


class Worker:
    """A worker process, seen from the command."""

    def __init__(self, job: Job, scratch: Path) -> None:
        """Starts a process with a folder of its own in `scratch`, and sends it the job."""
        folder = Path(tempfile.mkdtemp(dir=scratch))
        self.log = folder / "log.txt"
        self.job = replace(job, scratch=str(folder))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.send(TypeAdapter(Job).dump_json(self.job))

    def send(self, line: bytes) -> None:
        """Writes a line to the worker. Raises WorkerFailed where it has ended."""
        assert self.process.stdin
        try:
            self.process.stdin.write(line + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self.error_message()) from None

    def ask(self, request: str, kind: type[Answer]) -> Answer:
        """Sends a request and waits for the answer. Raises WorkerFailed where none comes."""
        self.send(request.encode())
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise WorkerFailed(self.error_message())
        return TypeAdapter(kind).validate_json(line)

    def error_message(self) -> str:
        """Returns the last line of the log that names an error, or else its last line."""
        code = self.process.wait()
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        lines = [line.strip() for line in lines if line.strip()]
        errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
        if code < 0:
            return f"stopped by signal {-code}" + " (is memory short?)" * (code == -9)
        return (errors or lines or [f"exit status {code}"])[-1][:300]

    def stop(self, timeout: float) -> None:
        """Closes the pipes and waits for the process to exit; kills it after `timeout` seconds."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def open_worker(job: Job, scratch: Path) -> Iterator[Worker]:
    """Starts a worker, which is stopped when the block ends, at once where the block raises."""
    worker, timeout = Worker(job, scratch), 0
    try:
        yield worker
        timeout = EXIT_TIMEOUT
    finally:
        worker.stop(timeout)


class Participant(Protocol):
    """What takes part in interleaved rounds: a worker, or its replacement in a test."""

    job: Job

    def ask(self, request: str, kind: type[Answer]) -> Answer:
        """Sends a request and returns the answer. Raises WorkerFailed where none comes."""
        ...


@dataclass(kw_only=True)
class Measurement:
    """The answers of one candidate: its warm-up, its rounds, its profile or its error."""

    job: Job
    ready: Ready | None = None
    rounds: list[Round] = field(default_factory=list)
    error: Annotated[str | None, Field(serialization_alias="died")] = None
    profile: Profile | None = None

    def rates(self) -> list[float]:
        """Returns the units per second of each round."""
        return [round.rate for round in self.rounds]


def measure(
    jobs: Sequence[Job], n_rounds: int, scratch: Path, progress: Progress, *, profile: bool
) -> list[Measurement]:
    """Starts a process for each job, and measures them in interleaved rounds."""
    with ExitStack() as stack:
        workers = [stack.enter_context(open_worker(job, scratch)) for job in jobs]
        return interleave(workers, n_rounds, progress, profile=profile)


def interleave(
    participants: Sequence[Participant],
    n_rounds: int,
    progress: Progress,
    *,
    profile: bool = False,
    pause: float = PAUSE,
) -> list[Measurement]:
    """Warms up all participants, then runs their rounds in turn; one that fails is left out."""
    measurements = [Measurement(job=participant.job) for participant in participants]
    requests = ["prepare", *["round"] * n_rounds, *["profile"] * profile]
    for request in requests:
        for participant, measurement in zip(participants, measurements, strict=True):
            if measurement.error is None:
                progress(f"{measurement.job.name}: {request}")
                time.sleep(pause)
                try:
                    record_answer(participant, measurement, request)
                except WorkerFailed as failure:
                    measurement.error = str(failure)
    return measurements


def record_answer(participant: Participant, measurement: Measurement, request: str) -> None:
    """Sends one request and stores its answer."""
    if request == "prepare":
        measurement.ready = participant.ask(request, Ready)
    elif request == "round":
        measurement.rounds.append(participant.ask(request, Round))
    else:
        measurement.profile = participant.ask(request, Profile)


def roofline_of(job: Job, scratch: Path) -> Roofline:
    """Measures the roofline in a worker process. Raises WorkerFailed where that fails."""
    with open_worker(job, scratch) as worker:
        return worker.ask("roofline", Roofline)
