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
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from shutil import which
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cfg_gpt2 import GPT2Config, TrainConfig, require
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from training.attention import differentiate_in_tiles
from training.checkpoint import TENSORS_FILE, copied, read_checkpoint, write_checkpoint
from training.memory import can_keep_memory, keep_memory
from training.products import ROWS, multiply_in_rows
from training.progress import Metrics

LARGE = 10_000_000  # weights in the blocks; smaller models gain less than compiling costs
TORCHRUN = "torchrun --standalone --nproc-per-node 2 main.py ..."

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
        for block in model.blocks:
            if self.in_rows:
                multiply_in_rows(block)
            if self.in_rows and self.compiled:
                differentiate_in_tiles(block)
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
            products = f"bf16 products of {ROWS} rows, fp32 weights"
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


def choose_runtime(
    config: TrainConfig, sizes: GPT2Config | None = None, ranks: Ranks | None = None
) -> Runtime:
    """The device, precision, compilation and strategy asked for, or the best that is here.

    Raises ValueError where what was asked for is not here.
    """
    ranks = ranks or Ranks()
    kind = choose_strategy(config.strategy, ranks)
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = config.device
    if name == "auto":
        name = next(device for device, here in present.items() if here)
    if not present[name]:
        here = ", ".join(device for device, found in present.items() if found)
        raise ValueError(f"--train.device {name} is not present here; present: {here}")
    require(
        name != "mps" or kind is Runtime,
        "several processes run on --train.device cpu or cuda, not on mps; leave torchrun out",
    )
    require(
        name != "cuda" or ranks.n_local <= torch.cuda.device_count(),
        f"--nproc-per-node {ranks.n_local} is more than the {torch.cuda.device_count()} GPUs "
        "of this host; start one process for each",
    )
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if is_faster_in_bf16(name) else "fp32"
    missing = missing_compiler(name)
    if config.compile == "on" and missing:
        raise ValueError(f"--train.compile on needs {missing}, which is not here; leave it out")
    compiled = config.compile == "on"
    if config.compile == "auto" and sizes:
        compiled = is_large(sizes)
    has_tiles = name == "cpu" and torch.cpu._is_amx_tile_supported()
    return kind(
        torch.device(name, ranks.local_rank) if name == "cuda" else torch.device(name),
        torch.bfloat16 if precision == "bf16" else torch.float32,
        compiled and not missing,
        missing if compiled else None,
        config.activation_checkpointing,
        has_tiles and precision == "bf16" and sizes is not None and is_large(sizes),
        ranks,
    )


def is_large(sizes: GPT2Config) -> bool:
    """Whether compiling for this model pays."""
    return 12 * sizes.n_layer * sizes.n_embd**2 >= LARGE


def choose_strategy(strategy: str, ranks: Ranks) -> type[Runtime]:
    """The class that --train.strategy means for these processes."""
    if strategy == "auto":
        strategy = "ddp" if ranks.n_ranks > 1 else "single"
    if strategy == "single":
        require(
            ranks.n_ranks == 1,
            f"--train.strategy single is one process, torchrun has started {ranks.n_ranks}; "
            "leave torchrun out, or take --train.strategy ddp",
        )
        return Runtime
    require(
        ranks.from_torchrun,
        f"--train.strategy {strategy} is for processes that torchrun starts; "
        f"write {TORCHRUN}, or leave it out",
    )
    from training.parallel import Replicated, Sharded  # a second that one process does not need

    return Replicated if strategy == "ddp" else Sharded


def missing_compiler(device: str) -> str | None:
    """What compiling for the device lacks; None: nothing."""
    if device == "cuda":
        return None if find_spec("triton") else "the package triton"
    if device == "mps" or any(map(which, ("c++", "g++", "clang++", "cl"))):
        return None
    return "a C++ compiler"


def is_faster_in_bf16(device: str) -> bool:
    """Whether the device has instructions for bf16 products."""
    if device == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    if device == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
