"""What the machine can do at most: matrix products of the model's own shapes, and memory.

    GFLOP/s = 2 m k n / seconds / 10^9          (m, k) x (k, n) by torch.nn.functional.linear
    GB/s    = bytes read and written / seconds / 10^9

The limit of a precision is its best shape. No training step is made of best shapes only, so its
share of the limit stays below 1.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch.nn import functional as F

from benchmarks.job import Job
from cfg_gpt2 import TrainConfig
from training.choose_runtime import choose_runtime, is_faster_in_bf16

REPEATS = 5
SECONDS = 0.2  # that a repeat takes at least
COPIED = 1 << 28  # bytes of each tensor that memory is measured with; no cache holds them
ALIGNED = 64  # the vocabulary is rounded up, for the speed that a padded head could have
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One thing that was measured."""

    what: str  # fp32, bf16 or memory
    how: str  # the shape, or copy or read
    rates: list[float]  # of each repeat, in operations or bytes a second


@dataclass(frozen=True)
class Limits:
    """All of them."""

    measured: list[Limit]

    def best(self, what: str) -> float | None:
        """Operations or bytes a second; None where it was not measured."""
        rates = [median(limit.rates) for limit in self.measured if limit.what == what]
        return max(rates, default=None)


def measure_limits(job: Job) -> Limits:
    """Products in each precision that the device has instructions for, and memory."""
    device = choose_runtime(TrainConfig(device=job.device)).device
    precisions = ["fp32", "bf16"] if is_faster_in_bf16(device.type) else ["fp32"]
    found = [
        Limit(what=name, how=f"({m}, {k}) x ({k}, {n})", rates=product(shape, name, device))
        for name in precisions
        for shape in shapes(job)
        for m, k, n in [shape]
    ]
    return Limits([*found, *memory(COPIED, device)])


def shapes(job: Job) -> list[tuple[int, int, int]]:
    """(m, k, n) of the feed-forward, there and back, of a weight's gradient, and of the head."""
    width, rows = job.model.n_embd, job.batch_size * job.model.context_length
    vocab_size = -(-job.model.vocab_size // ALIGNED) * ALIGNED
    return [
        (rows, width, 4 * width),
        (rows, 4 * width, width),
        (4 * width, rows, width),
        (rows, width, vocab_size),
    ]


def product(shape: tuple[int, int, int], precision: str, device: torch.device) -> list[float]:
    """Operations a second of (m, k) x (k, n), in each repeat."""
    m, k, n = shape
    x = torch.randn(m, k, device=device, dtype=DTYPES[precision])
    weight = torch.randn(n, k, device=device, dtype=DTYPES[precision])
    return repeated(lambda: F.linear(x, weight), 2 * m * k * n, device)


def memory(n_bytes: int, device: torch.device) -> list[Limit]:
    """Bytes a second of a copy, which reads and writes, and of a sum, which reads."""
    source = torch.ones(n_bytes // 4, device=device)
    copy = torch.empty_like(source)
    copied = repeated(lambda: copy.copy_(source), 2 * n_bytes, device)
    read = repeated(lambda: source.sum(), n_bytes, device)
    return [
        Limit(what="memory", how="copy", rates=copied),
        Limit(what="memory", how="read", rates=read),
    ]


def repeated(work: Callable[[], object], amount: int, device: torch.device) -> list[float]:
    """amount / seconds of work(), REPEATS times, each over at least SECONDS."""
    work()
    n_calls = max(1, round(SECONDS / timed(work, 1, device)))
    return [amount * n_calls / timed(work, n_calls, device) for _ in range(REPEATS)]


def timed(work: Callable[[], object], n_calls: int, device: torch.device) -> float:
    """Seconds of n_calls calls, until the device is done."""
    wait_for(device)
    started = time.perf_counter()
    for _ in range(n_calls):
        work()
    wait_for(device)
    return time.perf_counter() - started


def wait_for(device: torch.device) -> None:
    """Until all work that was handed to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
