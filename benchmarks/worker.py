"""The other end of a pipe: one contender in a process of its own.

Its peak memory is nobody else's, and when it dies the others go on. It answers on the pipe that
it got as standard output; whatever a peer prints goes to the log.
Started as `python -m benchmarks.worker`; a Job comes first, then one request a line.
"""

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import torch
from pydantic import TypeAdapter

from benchmarks import decode, load_batches, tokenize_text, train_step
from benchmarks.job import ROUND_SECONDS, Contender, Job, Profile, Ready, Round
from benchmarks.limits import Limits, measure_limits
from benchmarks.profiling import profiled

BUILDERS: dict[tuple[str, str], Callable[[Job], Contender]] = {
    ("training", "ours"): train_step.ours,
    ("training", "nanogpt"): train_step.nanogpt,
    ("training", "book"): train_step.book,
    ("training", "transformers"): train_step.transformers,
    ("scaling", "ours"): train_step.ours,
    ("decoding", "ours"): decode.ours,
    ("decoding", "nanogpt"): decode.nanogpt,
    ("decoding", "book"): decode.book,
    ("decoding", "transformers"): decode.transformers,
    ("decoding", "ctranslate2"): decode.ctranslate2,
    ("decoding", "llama_cpp"): decode.llama_cpp,
    ("tokenizing", "ours"): tokenize_text.ours,
    ("tokenizing", "tiktoken"): tokenize_text.tiktoken,
    ("tokenizing", "transformers"): tokenize_text.transformers,
    ("loading", "ours"): load_batches.ours,
    ("loading", "memmap"): load_batches.memmap,
    ("loading", "dataloader"): load_batches.dataloader,
}
Answer = Ready | Round | Profile | Limits


@dataclass
class Desk:
    """Does what is asked for, and remembers what has been built."""

    job: Job
    contender: Contender | None = None
    steps: int = 1

    def answer(self, request: str) -> Answer:
        """limits, prepare, round or profile -> what was measured."""
        if request == "limits":
            return measure_limits(self.job)
        if request == "prepare":
            return self.prepare()
        assert self.contender is not None
        if request == "profile":
            return profiled(self.contender.step)
        return self.round(self.contender)

    def prepare(self) -> Ready:
        """Builds the contender and warms it up; from the last warm-up step it sets the steps."""
        started = time.perf_counter()
        contender = BUILDERS[self.job.target, self.job.contender](self.job)
        built = time.perf_counter()
        self.contender, seconds = contender, 0.0
        for _ in range(self.job.warmup + 1):
            seconds = self.timed(contender)[1]
        self.steps = self.job.steps or max(1, math.ceil(ROUND_SECONDS / max(seconds, 1e-6)))
        return Ready(
            build_seconds=built - started,
            warmup_seconds=time.perf_counter() - built,
            steps=self.steps,
            precision=contender.precision,
            note=contender.note,
        )

    def round(self, contender: Contender) -> Round:
        """Some steps in a row."""
        units, seconds = self.timed(contender, self.steps)
        return Round(units=units, seconds=seconds, memory=peak_memory())

    def timed(self, contender: Contender, steps: int = 1) -> tuple[int, float]:
        """Units and seconds, until the device is done."""
        synchronize()
        started = time.perf_counter()
        units = sum(contender.step() for _ in range(steps))
        synchronize()
        return units, time.perf_counter() - started


def synchronize() -> None:
    """Waits for whatever GPU there is."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def peak_memory() -> int:
    """Bytes: on a GPU those of its tensors, else the process's largest resident size."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def own_pipe() -> BinaryIO:
    """Standard output, kept for answers; from here on prints go where errors go."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def work() -> None:
    """Answers until the parent closes its end."""
    pipe = own_pipe()
    desk = Desk(TypeAdapter(Job).validate_json(sys.stdin.readline()))
    for request in sys.stdin:
        answer = desk.answer(request.strip())
        pipe.write(TypeAdapter(type(answer)).dump_json(answer) + b"\n")
        pipe.flush()


if __name__ == "__main__":
    work()
