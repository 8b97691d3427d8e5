"""Where the run computes, in which precision and in how many processes: said in one line.

bf16 keeps 8 bits of each number in a matrix product and all 32 bits of the weights. Processors
with bf16 instructions multiply two to four times faster that way.

Runtime is one process, and what the trainer asks of any number of them. parallel.py answers the
same questions for several.
"""

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
from training.checkpoint import TENSORS_FILE, copied, read_checkpoint, write_checkpoint
from training.kernels import choose_kernels, use_kernels
from training.kernels.linear import ROW_CHUNK
from training.memory import can_keep_memory, keep_memory
from training.progress import Metrics

Answer = TypeVar("Answer")
Batch = tuple[Tensor, Tensor]  # tokens and targets, both (B, T)
LossFunction = Callable[[GPT2Model, Batch], tuple[Tensor, Tensor, Metrics]]
Objective = Callable[[Batch], tuple[Tensor, Tensor, Metrics]]  # with the model inside
Save = Callable[[Callable[[Path], object]], object]  # calls what writes files into a folder


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is, as torchrun tells each of them."""

    rank: int = 0
    n_ranks: int = 1
    local_rank: int = 0  # among those on this host
    n_local: int = 1
    from_torchrun: bool = False

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Ranks":
        """What torchrun has set; without torchrun: one process."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        if not all(name in environment for name in names):
            return cls()
        return cls(*(int(environment[name]) for name in names), from_torchrun=True)


@dataclass(frozen=True)
class Runtime:
    """One process on one device."""

    device: torch.device
    precision: torch.dtype
    compiled: bool = False
    missing: str | None = None  # what keeps the blocks from being compiled
    recomputing: bool = False  # the blocks' activations, in the backward pass
    in_rows: bool = False  # the blocks' products, for a processor with tiles
    ranks: Ranks = Ranks()

    @property
    def is_first(self) -> bool:
        """Whether this process prints, logs, draws and writes what is written once."""
        return self.ranks.rank == 0

    def session(self) -> AbstractContextManager[object]:
        """Inside this context the processes can reach each other."""
        return nullcontext()

    def autocast(self) -> AbstractContextManager[object]:
        """Inside this context matrix products run in the chosen precision."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.precision)

    def prepare(self, model: GPT2Model) -> GPT2Model:
        """The model on the device, its blocks compiled in place where that was chosen."""
        model.to(self.device)
        if self.device.type == "cpu":
            keep_memory()
        kernels = choose_kernels(
            self.device, self.precision, has_tiles=self.in_rows, compiled=self.compiled
        )
        use_kernels(model, kernels)
        for block in model.blocks:
            if self.recomputing:
                recompute(block)
            if self.compiled:  # the blocks are equal: one compilation serves them all
                block.compile()
        return model

    def objective(self, model: GPT2Model, loss_fn: LossFunction) -> Objective:
        """The loss of a batch, as this process computes it."""
        return partial(loss_fn, model)

    def share(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Every n-th batch, for n processes. All get equally many: the last may be a blank one."""
        batches = iter(batches)
        while turn := list(islice(batches, self.ranks.n_ranks)):
            yield turn[self.ranks.rank] if self.ranks.rank < len(turn) else blank(turn[0])

    def synchronize(self, objective: Objective, *, now: bool) -> None:
        """Says whether the next backward pass adds up the gradients of all processes."""

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        return values

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """The length of the whole gradient."""
        return torch.nn.utils.get_total_norm(gradients)

    def agree(self, wish: int) -> int:
        """The highest number that any process wishes; 0: none wishes anything."""
        return wish

    def first(self, choose: Callable[[], Answer]) -> Answer:
        """What the first process chooses, in all of them. Where it fails, all end."""
        return choose()

    def in_turn(self, prepare: Callable[[], Answer]) -> Answer:
        """What each process prepares; one on each host goes first and leaves files for the rest."""
        return prepare()

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors in full, in the first process; nothing in the others."""
        return dict(tensors)

    def copied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies in main memory, which a thread can write while training goes on."""
        return copied(tensors)

    def save(self, save: Save, tensors: dict[str, Tensor]) -> None:
        """Lets `save` make a checkpoint, for which all processes write tensors that are copied."""
        save(lambda folder: write_checkpoint(folder, tensors))

    def read(self, checkpoint: Path, model: GPT2Model) -> dict[str, Tensor]:
        """The tensors of a checkpoint, as far as this process holds those of the model."""
        if (checkpoint / TENSORS_FILE).exists():
            return read_checkpoint(checkpoint)
        from training.sharded_checkpoint import read_shards

        return read_shards(checkpoint, like={})

    def to_device(self, tensor: Tensor) -> Tensor:
        """A copy that a GPU need not be waited for."""
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def describe(self) -> str:
        """One line for the user."""
        names = {"cpu": f"cpu with {torch.get_num_threads()} threads", "mps": "Apple GPU (mps)"}
        if self.device.type == "cuda":
            names["cuda"] = torch.cuda.get_device_name(self.device)
        products = "bf16 products, fp32 weights" if self.precision == torch.bfloat16 else "fp32"
        if self.in_rows:
            products = f"bf16 products of {ROW_CHUNK} rows, fp32 weights"
        blocks = "blocks compiled" if self.compiled else "blocks as written"
        if self.missing:
            blocks += f", for want of {self.missing} to compile them"
        if self.recomputing:
            blocks += " and computed twice"
        memory = ", freed memory kept" if self.device.type == "cpu" and can_keep_memory() else ""
        return f"{names[self.device.type]}, {products}, {blocks}{memory}"


def recompute(block: nn.Module) -> None:
    """Lets a block keep its input only, and compute the rest again for the backward pass."""
    setattr(block, "forward", partial(checkpoint, block.forward, use_reentrant=False))  # noqa: B010


def blank(batch: Batch) -> Batch:
    """A batch of the same shape that counts for nothing."""
    tokens, targets = batch
    return tokens, torch.full_like(targets, IGNORE_INDEX)
