"""The worker process: runs one candidate and answers the requests of the command.

A process of its own gives each candidate its own peak memory, and when it crashes the others
continue. It answers on the pipe that is its standard output; prints of a peer go to the log.
It is started as `python -m benchmarks.worker`, and reads a Job, then one request per line.
Previous: interleaved.py.  Next: train_step.py.
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

from benchmarks import decode, finetune_step, load_batches, tokenize_text, train_step, trl_step
from benchmarks.job import ROUND_SECONDS, Candidate, Job, Profile, Ready, Round
from benchmarks.profiling import profile_step
from benchmarks.roofline import Roofline, measure_roofline

BUILDERS: dict[tuple[str, str], Callable[[Job], Candidate]] = {
    ("training", "ours"): train_step.ours,
    ("training", "nanogpt"): train_step.nanogpt,
    ("training", "book"): train_step.book,
    ("training", "transformers"): train_step.transformers,
    ("scaling", "ours"): train_step.ours,
    ("finetuning", "lora"): finetune_step.lora,
    ("finetuning", "ours"): finetune_step.ours,
    ("finetuning", "peft"): finetune_step.peft,
    ("finetuning", "transformers"): finetune_step.transformers,
    ("finetuning", "trl"): trl_step.trl,
    ("finetuning", "trl_lora"): trl_step.trl_lora,
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
Answer = Ready | Round | Profile | Roofline


@dataclass
class RequestHandler:
    """Answers requests about one job, and keeps the candidate that it has built."""

    job: Job
    candidate: Candidate | None = None
    steps: int = 1

    def answer(self, request: str) -> Answer:
        """Answers roofline, prepare, round or profile."""
        if request == "roofline":
            return measure_roofline(self.job)
        if request == "prepare":
            return self.prepare()
        assert self.candidate is not None
        if request == "profile":
            return profile_step(self.candidate.step)
        return self.round(self.candidate)

    def prepare(self) -> Ready:
        """Builds the candidate and warms it up; its last warm-up step sets the steps per round."""
        started = time.perf_counter()
        candidate = BUILDERS[self.job.target, self.job.candidate](self.job)
        built = time.perf_counter()
        self.candidate, seconds = candidate, 0.0
        for _ in range(self.job.warmup + 1):
            seconds = self.time_steps(candidate)[1]
        self.steps = self.job.steps or max(1, math.ceil(ROUND_SECONDS / max(seconds, 1e-6)))
        return Ready(
            build_seconds=built - started,
            warmup_seconds=time.perf_counter() - built,
            steps=self.steps,
            precision=candidate.precision,
            note=candidate.note,
        )

    def round(self, candidate: Candidate) -> Round:
        """Measures one round: as many steps as the warm-up has set."""
        units, seconds = self.time_steps(candidate, self.steps)
        return Round(units=units, seconds=seconds, memory=peak_memory())

    def time_steps(self, candidate: Candidate, steps: int = 1) -> tuple[int, float]:
        """Runs steps; returns their units and their seconds, until the device has finished."""
        synchronize()
        started = time.perf_counter()
        units = sum(candidate.step() for _ in range(steps))
        synchronize()
        return units, time.perf_counter() - started


def synchronize() -> None:
    """Waits until a GPU, where there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def peak_memory() -> int:
    """Returns the peak memory in bytes: of tensors on a GPU, otherwise of the process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reserve_stdout() -> BinaryIO:
    """Returns standard output for answers, and redirects later prints to standard error."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def work() -> None:
    """Answers requests until the command closes the pipe."""
    pipe = reserve_stdout()
    handler = RequestHandler(TypeAdapter(Job).validate_json(sys.stdin.readline()))
    for request in sys.stdin:
        answer = handler.answer(request.strip())
        pipe.write(TypeAdapter(type(answer)).dump_json(answer) + b"\n")
        pipe.flush()


if __name__ == "__main__":
    work()
