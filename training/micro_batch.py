"""Micro-batches: the windows of a step, as many at a time as fit into memory.

    kept      = what autograd keeps of one window until its gradient is known, counted
    micro     = SHARE (free - gradients - optimizer) / kept

A step's windows are cut into as few micro-batches as that allows. Only a GPU says that its memory
is short, and then a smaller micro-batch is tried; a CPU's machine swaps or ends the process.
Previous: choose_runtime.py.  Next: run_state.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Protocol, TypeVar

import torch
from rich.console import Console
from torch import Tensor, nn

from cfg_gpt2 import RunConfig, require
from training.machine import free_memory
from training.optimizer import Optimizers
from training.progress import Metrics
from training.random_state import random_states, set_random_states
from training.runtime import Batch, Runtime, empty_batch
from training.sums import Sums
from training.training_data import SampledWindows, Windows

SHARE = 0.7  # of what is free: peaks were up to 1.3 times the sum, by what lives shortly
OPTIMIZER_TENSORS = 2  # of a parameter's size: AdamW's two means
ADVICE = "try a smaller --model.context-length, or --train.device cpu"


@dataclass
class MicroBatches:
    """Cuts the windows of each step into micro-batches, of which each process takes its part.

    Args:
        windows: the training windows, by number.
        forward: computes the loss of a batch of windows: the sum first, whatever follows.
        model, optimizers: what is trained; they tell how much memory a step is still to take.
    """

    windows: Windows
    forward: Callable[[Batch], tuple[Tensor, Tensor, Sums]]
    model: nn.Module
    optimizers: Optimizers
    config: RunConfig
    runtime: Runtime
    console: Console

    def __post_init__(self) -> None:
        """Raises ValueError where --train.micro-batch auto cannot be decided."""
        self.batches: list[Batch] = []
        self.position = 0  # the number of their first window
        self.are_done = False  # their gradients are known
        self.size = self.choose_size()  # windows that go through the model at a time

    def at(self, position: int) -> list[Batch]:
        """Returns the micro-batches of the step whose first window has the number `position`."""
        self.read(position)
        self.are_done = False
        return self.batches

    def prefetch(self, position: int) -> None:
        """Reads the next step's micro-batches, while a GPU is busy with the gradients of this.

        Those that the model writes itself have to wait for its next weights.
        """
        if not isinstance(self.windows, SampledWindows):
            self.read(position)
        self.are_done = True

    def read(self, position: int) -> None:
        """Reads a step's micro-batches, unless they are those that were read last."""
        if position != self.position or not self.batches:
            n_windows = self.config.train.batch_size
            together = self.size * self.runtime.ranks.n_ranks
            self.batches = [
                self.rank_batch(position + done, min(together, n_windows - done))
                for done in range(0, n_windows, together)
            ]
            self.position = position

    def rank_batch(self, first: int, count: int) -> Batch:
        """Returns this process's part of `count` windows: every n-th one, for n processes.

        Where there are fewer windows than processes, some get a batch that counts for nothing.
        """
        rank, n_ranks = self.runtime.ranks.rank, self.runtime.ranks.n_ranks
        own = range(first, first + count)[rank::n_ranks]
        if not own:
            return empty_batch(self.windows.batch(first, 1))
        return self.windows.batch(own.start, len(own), step=n_ranks)

    @property
    def windows_per_rank(self) -> int:
        """The windows of a step that one process takes, at most."""
        return -(-self.config.train.batch_size // self.runtime.ranks.n_ranks)

    def resize(self, size: int) -> None:
        """Lets the next steps have micro-batches of at most `size` windows."""
        self.size, self.batches = min(size, self.windows_per_rank), []

    def choose_size(self) -> int:
        """Returns --train.micro-batch, or what fits into memory where that is "auto"."""
        asked = self.config.train.micro_batch
        if asked != "auto":
            return asked or self.windows_per_rank
        require(
            self.runtime.ranks.n_ranks == 1,
            "--train.micro-batch auto is for one process; for several give a number",
        )
        need = self.memory_need()
        if need is None:
            return 1
        size = need.micro_batch(self.config.train.batch_size)
        self.console.print(f"memory    {need.describe(size)}: --train.micro-batch {size}")
        return size

    def shrink(self) -> None:
        """Halves the micro-batch, or takes what fits where that is less, to the end of the run.

        Raises ValueError where not even one window fits, and in a run of several processes: the
        others wait for this one inside their own steps.
        """
        require(
            self.runtime.ranks.n_ranks == 1,
            f"memory is short in process {self.runtime.ranks.rank}; go on with --resume and "
            f"--train.micro-batch {max(1, self.size // 2)}",
        )
        self.model.zero_grad(set_to_none=True)
        size, need = self.size, self.memory_need()
        reason = need.describe(size) if need else "not even two windows fit at a time"
        require(size > 1, f"one window does not fit into memory: {reason}; {ADVICE}")
        n_windows = self.config.train.batch_size
        self.resize(min(size // 2, need.micro_batch(n_windows) if need else 1))
        self.console.print(
            f"memory is short: {reason}; going on with --train.micro-batch {self.size}, "
            f"a step stays {n_windows} windows"
        )

    def memory_need(self) -> "MemoryNeed | None":
        """Returns what a step takes, and what there is; None where not even two windows fit."""
        example = self.windows.batch(self.position, 1)
        context_length = self.config.model.context_length

        def zeros(of_one: Tensor, n_windows: int) -> Tensor:
            rows, *positions = of_one.shape  # a window may be several rows, such as two answers
            return of_one.new_zeros(n_windows * rows, *[context_length for _ in positions])

        def loss(n_windows: int) -> Tensor:
            return self.forward(tuple(zeros(x, n_windows) for x in example))[0]

        self.model.train()
        return measure_need(self.model, loss, has_stepped=bool(self.optimizers[0].state))


class HasMicroBatches(Protocol):
    """A trainer, as far as `shrink_when_out_of_memory` knows it."""

    @property
    def micro_batches(self) -> MicroBatches:
        """The micro-batches of its steps."""
        ...


Trainer = TypeVar("Trainer", bound=HasMicroBatches)


def shrink_when_out_of_memory(
    take_step: Callable[[Trainer], Metrics],
) -> Callable[[Trainer], Metrics]:
    """Lets a trainer's step be taken again, with smaller micro-batches, where memory is short.

    The random states are put back first, so the step is the one that smaller micro-batches would
    have taken from the start. A memory error after the step has prefetched the next one's
    micro-batches is raised as it is: the optimizers may have moved some weights.
    """

    @wraps(take_step)
    def take_fitting_step(self: Trainer) -> Metrics:
        while True:
            states = random_states()
            try:
                return take_step(self)
            except RuntimeError as error:
                if self.micro_batches.are_done or not is_out_of_memory(error):
                    raise
            self.micro_batches.shrink()  # here the error no longer holds what was computed
            set_random_states(states)

    return take_fitting_step


def is_out_of_memory(error: RuntimeError) -> bool:
    """Returns whether a device's memory is short; MPS says so in a RuntimeError's text only."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return "MPS" in str(error) and "out of memory" in str(error)


@dataclass(frozen=True)
class MemoryNeed:
    """The bytes that a training step needs, and those that are free."""

    per_window: int  # kept by autograd from the forward to the backward pass
    fixed: int  # gradients, optimizer states to come, and what a pass keeps for any number of them
    free: int  # before the step

    def most_windows(self) -> int:
        """Returns how many windows fit into memory at a time; 0 where not even one does."""
        return max(0, int(SHARE * (self.free - self.fixed) / self.per_window))

    def micro_batch(self, batch_size: int) -> int:
        """Returns the size of the fewest equal parts of a batch that fit; at least one window."""
        n_parts = -(-batch_size // max(1, self.most_windows()))
        return -(-batch_size // n_parts)

    def describe(self, n_windows: int) -> str:
        """Returns a sentence about what a step takes with so many windows at a time."""
        step = self.fixed + n_windows * self.per_window
        return (
            f"{n_windows} windows at a time take about {step / 1e9:.2g} GB "
            f"({self.per_window / 1e6:.2g} MB per window), {self.free / 1e9:.2g} GB are free"
        )


def measure_need(
    model: nn.Module, loss: Callable[[int], Tensor], *, has_stepped: bool
) -> MemoryNeed | None:
    """Measures the memory that a step takes, by computing the loss of one and of two windows.

    Returns None where a GPU has no room for two. Compiled blocks run eagerly here, which keeps
    somewhat more than they do compiled. Raises ValueError where free memory is not known.
    """
    states = random_states()
    try:
        with torch.compiler.set_stance("force_eager"):
            one, two = (kept_bytes(model, lambda n=n: loss(n)) for n in (1, 2))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        set_random_states(states)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    n_to_allocate = 1 if has_stepped else 1 + OPTIMIZER_TENSORS  # tensors of a parameter's size
    per_window, free = max(1, two - one), free_memory(next(model.parameters()).device)
    if free is None:
        raise ValueError(
            "--train.micro-batch auto: this system does not say how much memory is free; "
            "give a number"
        )
    return MemoryNeed(per_window, trained * n_to_allocate + one - per_window, free)


def kept_bytes(model: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Returns the bytes that autograd keeps of a forward pass, without the weights.

    A piece of memory that several tensors share counts once.
    """
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()  # held until the sum is computed, so that no address is used twice
    n_bytes = sum(kept.values())
    del result
    return n_bytes
