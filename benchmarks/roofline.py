"""The roofline of the machine: its fastest matmuls of the model's shapes, and its memory bandwidth.

    GFLOP/s = 2 m k n / seconds / 10^9          (m, k) x (k, n) by torch.nn.functional.linear
    GB/s    = bytes read and written / seconds / 10^9

The limit of a precision is its fastest shape. A training step has other shapes and operations too,
so its share of the limit stays below 1.
Previous: profiling.py.  Next: result.py.
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
MIN_SECONDS = 0.2  # of a repeat
MEMORY_BYTES = 1 << 28  # of each tensor that bandwidth is measured with, more than any cache
VOCAB_MULTIPLE = 64  # the vocabulary is rounded up to it: a padded output layer is faster
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The measured rate of a matmul or of a memory operation."""

    what: str  # fp32, bf16 or memory
    how: str  # the shapes of the matmul, or copy, or read
    rates: list[float]  # of each repeat, in operations or bytes per second


@dataclass(frozen=True)
class Roofline:
    """The peaks that were measured on a machine."""

    measured: list[Peak]

    def best(self, what: str) -> float | None:
        """Returns the highest median rate of a kind, or None where it was not measured."""
        rates = [median(peak.rates) for peak in self.measured if peak.what == what]
        return max(rates, default=None)


def measure_roofline(job: Job) -> Roofline:
    """Measures matmuls in each precision that the device has instructions for, and memory."""
    device = choose_runtime(TrainConfig(device=job.device)).device
    precisions = ["fp32", "bf16"] if is_faster_in_bf16(device.type) else ["fp32"]
    matmuls = [
        Peak(what=name, how=f"({m}, {k}) x ({k}, {n})", rates=matmul_rates(shape, name, device))
        for name in precisions
        for shape in matmul_shapes(job)
        for m, k, n in [shape]
    ]
    return Roofline([*matmuls, *memory_peaks(MEMORY_BYTES, device)])


def matmul_shapes(job: Job) -> list[tuple[int, int, int]]:
    """Returns (m, k, n) of both feed-forward layers, a weight's gradient and the output layer."""
    width, rows = job.model.n_embd, job.batch_size * job.model.context_length
    vocab_size = -(-job.model.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
    return [
        (rows, width, 4 * width),
        (rows, 4 * width, width),
        (4 * width, rows, width),
        (rows, width, vocab_size),
    ]


def matmul_rates(shape: tuple[int, int, int], precision: str, device: torch.device) -> list[float]:
    """Returns the operations per second of (m, k) x (k, n) in each repeat."""
    m, k, n = shape
    x = torch.randn(m, k, device=device, dtype=DTYPES[precision])
    weight = torch.randn(n, k, device=device, dtype=DTYPES[precision])
    return repeat_rates(lambda: F.linear(x, weight), 2 * m * k * n, device)


def memory_peaks(n_bytes: int, device: torch.device) -> list[Peak]:
    """Returns the bytes per second of a copy, which reads and writes, and of a sum, which reads."""
    source = torch.ones(n_bytes // 4, device=device)
    copy = torch.empty_like(source)
    copy_rates = repeat_rates(lambda: copy.copy_(source), 2 * n_bytes, device)
    read_rates = repeat_rates(lambda: source.sum(), n_bytes, device)
    return [
        Peak(what="memory", how="copy", rates=copy_rates),
        Peak(what="memory", how="read", rates=read_rates),
    ]


def repeat_rates(work: Callable[[], object], amount: int, device: torch.device) -> list[float]:
    """Returns amount / seconds of a call, measured REPEATS times over at least MIN_SECONDS."""
    work()
    n_calls = max(1, round(MIN_SECONDS / timed(work, 1, device)))
    return [amount * n_calls / timed(work, n_calls, device) for _ in range(REPEATS)]


def timed(work: Callable[[], object], n_calls: int, device: torch.device) -> float:
    """Returns the seconds of n_calls calls, until the device has finished them."""
    wait_for(device)
    started = time.perf_counter()
    for _ in range(n_calls):
        work()
    wait_for(device)
    return time.perf_counter() - started


def wait_for(device: torch.device) -> None:
    """Waits until the device has finished all work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
