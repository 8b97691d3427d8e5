"""Where a run computes, in which precision and in how many processes.

In bf16 each number of a matmul keeps 8 significant bits; weights keep all their 24. Processors
with bf16 instructions multiply two to four times faster that way.

Runtime is one process on one device, and the interface that the trainer uses for any number of
processes. parallel.py has the classes for several.
Previous: kernels/cross_entropy.py.  Next: parallel.py.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from multiheadattention import KVCache
from training.checkpoint import TENSORS_FILE, copy_to_cpu, read_checkpoint, write_checkpoint
from training.kernels import choose_kernels, use_kernels
from training.kernels.linear import ROW_CHUNK
from training.memory import can_keep_memory, keep_memory
from training.sums import Sums
from training.training_data import Batch
from transformer_block import TransformerBlock

Result = TypeVar("Result")
LossFunction = Callable[[GPT2Model, Batch], tuple[Tensor, Tensor, Sums]]
Objective = Callable[[Batch], tuple[Tensor, Tensor, Sums]]  # with the model inside
Save = Callable[[Callable[[Path], object]], object]  # gets a function that fills a folder


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is, as torchrun tells each of them."""

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0  # among the processes of this host
    n_local: int = 1
    from_torchrun: bool = False

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Ranks":
        """Returns what torchrun has set in the environment; without torchrun, one process."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(name in environment for name in names):
            return cls()
        return cls(*(int(environment[name]) for name in names), from_torchrun=True)


@dataclass(frozen=True)
class Runtime:
    """One process on one device."""

    device: torch.device
    precision: torch.dtype  # of matmuls; weights are fp32
    compiled: bool = False  # whether the blocks are compiled
    missing: str | None = None  # the compiler that this machine lacks for it
    activation_checkpointing: bool = False  # whether backward computes the blocks again
    has_tiles: bool = False  # whether the processor multiplies bf16 by tiles, and that pays here
    ranks: Ranks = Ranks()
    deterministic: bool = False  # whether operations whose sums change their order are left out

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process prints, logs, draws and writes the files that are written once."""
        return self.ranks.rank == 0

    def process_group(self) -> AbstractContextManager[object]:
        """Inside this context the processes can exchange tensors."""
        return nullcontext()

    def autocast(self) -> AbstractContextManager[object]:
        """Inside this context matmuls run in the chosen precision."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def prepare(self, model: GPT2Model) -> GPT2Model:
        """Moves a model to the device, attaches kernels and compiles its blocks, all in place.

        The frozen matrices of the blocks are in the precision of matmuls from here on. With
        `deterministic`, PyTorch is told so for the whole process.
        """
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS asks for
            torch.use_deterministic_algorithms(True)
        if self.precision != torch.float32:
            cast_frozen(model, self.precision)
        model.to(self.device)
        if self.device.type == "cpu":
            keep_memory()
        kernels = choose_kernels(
            self.device, self.precision, has_tiles=self.has_tiles, compiled=self.compiled
        )
        use_kernels(model, kernels)
        for block in model.blocks:
            if self.activation_checkpointing:
                block.__class__ = CheckpointedBlock
            if self.compiled:  # the blocks are equal: one compilation serves them all
                block.compile()
        return model

    def objective(self, model: GPT2Model, loss_fn: LossFunction) -> Objective:
        """Returns the function from a batch to its loss, as this process computes it."""
        return partial(loss_fn, model)

    def batches_of_rank(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yields every n-th batch, for n processes.

        All processes get equally many: the last one may be a batch that counts for nothing.
        """
        batches = iter(batches)
        while group := list(islice(batches, self.ranks.n_ranks)):
            yield group[self.ranks.rank] if self.ranks.rank < len(group) else empty_batch(group[0])

    def sync_gradients(self, objective: Objective, *, now: bool) -> None:
        """Turns the all-reduce of gradients in the next backward pass on or off."""

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Returns the sum of the tensors of all processes."""
        return values

    def all_reduce_max(self, value: int) -> int:
        """Returns the largest of the numbers of all processes."""
        return value

    def grad_norm(self, model: nn.Module) -> Tensor:
        """Returns the length of the gradient of all parameters together."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def on_rank_zero(self, work: Callable[[], Result]) -> Result:
        """Calls work() in the first process and returns its result in all of them.

        Where work() raises ValueError or OSError, all processes end.
        """
        return work()

    def local_rank_zero_first(self, work: Callable[[], Result]) -> Result:
        """Calls work() in each process, and in the first one of each host before the others.

        So the first one can write files that the others only read. Where work() raises ValueError
        or OSError, all processes end.
        """
        return work()

    def gather_full(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the whole tensors in the first process, and nothing in the others."""
        return dict(tensors)

    def copy_to_cpu(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns copies in main memory, which a thread can write while training goes on."""
        return copy_to_cpu(tensors)

    def save(self, save: Save, tensors: dict[str, Tensor]) -> None:
        """Calls save(write), where write(folder) writes the tensors of all processes."""
        save(lambda folder: write_checkpoint(folder, tensors))

    def read(self, checkpoint: Path, model: GPT2Model) -> dict[str, Tensor]:
        """Returns the tensors of a checkpoint, of sharded parameters this process's part."""
        if (checkpoint / TENSORS_FILE).exists():
            return read_checkpoint(checkpoint)
        from training.sharded_checkpoint import read_shards  # a second, for one process's run

        return read_shards(checkpoint, like={})

    def to_device(self, tensor: Tensor) -> Tensor:
        """Returns a copy on the device, without waiting for a CUDA device.

        On other devices the copy is complete when this returns: a later one reads memory that
        may have been freed (MPS, pytorch issue 189690).
        """
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def describe(self) -> str:
        """Returns a line about the device, the precision and how the blocks run."""
        n_threads = torch.get_num_threads()
        cpu = f"cpu with {n_threads} thread{'' if n_threads == 1 else 's'}"
        names = {"cpu": cpu, "mps": "Apple GPU (mps)"}
        if self.device.type == "cuda":
            names["cuda"] = torch.cuda.get_device_name(self.device)
        matmuls = "bf16 matmuls" if self.precision == torch.bfloat16 else "fp32"
        if self.has_tiles:
            matmuls += f" in chunks of {ROW_CHUNK} rows"
        if self.precision != torch.float32:
            matmuls += ", fp32 weights"
        blocks = "compiled blocks" if self.compiled else "eager blocks"
        if self.missing:
            blocks += f" (compiling them needs {self.missing})"
        if self.activation_checkpointing:
            blocks += " with activation checkpointing"
        if self.deterministic:
            blocks += ", deterministic"
        memory = ", freed memory kept" if self.device.type == "cpu" and can_keep_memory() else ""
        return f"{names[self.device.type]}, {matmuls}, {blocks}{memory}"


def cast_frozen(model: GPT2Model, dtype: torch.dtype) -> None:
    """Casts the frozen matrices of the blocks, in place, to what autocast makes of them each time.

    The other frozen weights keep their dtype and are copied: as long as one of them is mapped from
    a file, all pages of the file that were read count as memory of this process.
    """
    matrices = {layer.weight for layer in model.blocks.modules() if isinstance(layer, nn.Linear)}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            kept_in = dtype if parameter in matrices else parameter.dtype
            parameter.data = parameter.detach().to(kept_in, copy=True)


class CheckpointedBlock(TransformerBlock):
    """A block that keeps only its input, and computes its activations again for the gradient."""

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return checkpoint(super().forward, x, cache, use_reentrant=False)


def empty_batch(batch: Batch) -> Batch:
    """Returns a batch of the same shape whose targets do not count."""
    *inputs, targets = batch
    return *inputs, torch.full_like(targets, IGNORE_INDEX)
