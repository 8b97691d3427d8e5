"""Several processes that train one model, each on its own windows.

    DDP    each holds the whole model; after the last micro-batch the gradients are added up
    FSDP2  each holds 1/n of every tensor; a block is gathered while it is computed, and its
           gradient is added up and dealt out again

Gradients are summed, never averaged: the trainer divides once, by the count of targets in all
processes, so a step is the same however many share it. torchrun starts the processes; gloo
connects CPUs, NCCL connects GPUs.                     Li et al. 2020; Zhao et al. 2023
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from gpt2 import GPT2Model
from training.checkpoint import below, copied
from training.dtensor import full_tensor, local_part, part_like
from training.progress import Metrics
from training.random_state import random_states
from training.runtime import Batch, LossFunction, Objective, Runtime, Save
from training.sharded_checkpoint import read_shards, wait_for_shards, write_shards

TIMEOUT = timedelta(minutes=10)  # of one exchange; compiling at unequal speed takes minutes
PREPARING = timedelta(days=1)  # of text, by the first process of a host
FAILED = 2  # the exit status of processes that end because another one could not go on

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Parallel(Runtime):
    """What DDP and FSDP2 have in common."""

    @contextmanager
    def session(self) -> Iterator[None]:
        """Inside this context the processes can reach each other.

        Raises ConnectionError where one of them is gone.
        """
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.set_device(self.device)
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
            _ = self.writers  # a group is made by all at once, so not in a thread
            yield
            dist.destroy_process_group()
        except RuntimeError as error:
            if not is_broken_connection(error):
                raise
            reason = re.sub(r"^(\[.*?\] )*", "", str(error)).splitlines()[0].partition(". ")[0]
            raise ConnectionError(
                f"process {self.ranks.rank} of {self.ranks.n_ranks} cannot reach the others "
                f"({reason}), so it ends; what was saved is whole: "
                "start all of them again with --resume and the run's directory"
            ) from None

    def describe(self) -> str:
        """One line for the user."""
        return f"{super().describe()}; {self.ranks.n_ranks} processes"

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        dist.all_reduce(values)
        return values

    def agree(self, wish: int) -> int:
        """The highest number that any process wishes; 0: none wishes anything."""
        wishes = torch.tensor(wish)  # on the CPU: no GPU is waited for
        dist.all_reduce(wishes, dist.ReduceOp.MAX)
        return int(wishes)

    def first(self, choose: Callable[[], Answer]) -> Answer:
        """What the first process chooses, in all of them. Where it fails, all end."""
        chosen = attempt(choose) if self.is_first else Attempt()
        self.end_if_failed(chosen)
        answer = [chosen.answer]
        dist.broadcast_object_list(answer, device=torch.device("cpu"))
        return answer[0]  # pyright: ignore[reportReturnType]  nobody has failed

    def in_turn(self, prepare: Callable[[], Answer]) -> Answer:
        """What each process prepares; one on each host goes first and leaves files for the rest."""
        patient = new_group(PREPARING)
        prepared = Attempt()
        for turn in (True, False):
            if (self.ranks.local_rank == 0) is turn:
                prepared = attempt(prepare)
            self.end_if_failed(prepared, patient)
        dist.destroy_process_group(patient)
        return prepared.answer  # pyright: ignore[reportReturnType]  nobody has failed

    def end_if_failed(self, attempted: "Attempt", group: dist.ProcessGroup | None = None) -> None:
        """Where one process has failed all end, and that one says why."""
        failed = torch.tensor(int(attempted.error is not None))
        dist.all_reduce(failed, dist.ReduceOp.MAX, group=group)
        if attempted.error is not None:
            raise attempted.error
        if failed:
            sys.exit(FAILED)

    @cached_property
    def writers(self) -> dist.ProcessGroup:
        """All processes once more, for the threads that write checkpoints beside the training."""
        return new_group(PREPARING)

    @cached_property
    def mesh(self) -> DeviceMesh:
        """The processes, one after the other."""
        return init_device_mesh(self.device.type, (self.ranks.n_ranks,))

    @cached_property
    def main_memory(self) -> DeviceMesh:
        """The same ones with their main memories."""
        return init_device_mesh("cpu", (self.ranks.n_ranks,))

    def copied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies in main memory, which a thread can write while training goes on.

        The first process's random states have the names that they have in one process alone.
        """
        mine = f"random-{self.ranks.rank}/" if self.ranks.rank else "random/"
        parts = copied({name: local_part(tensor) for name, tensor in tensors.items()})
        return {
            name.replace("random/", mine): part_like(parts[name], tensor, self.main_memory)
            for name, tensor in tensors.items()
        }

    def save(self, save: Save, tensors: dict[str, Tensor]) -> None:
        """Lets `save` make a checkpoint, for which all processes write tensors that are copied.

        Where one cannot write, the first one says so and ends, and with it all.
        """

        def write(folder: Path | None) -> None:
            told = [folder]
            dist.broadcast_object_list(told, group=self.writers, device=torch.device("cpu"))
            assert told[0] is not None
            write_shards(told[0], tensors, self.writers)

        def write_and_look(folder: Path) -> None:
            write(folder)
            wait_for_shards(folder, self.ranks.n_ranks)

        if self.is_first:
            save(write_and_look)
        else:
            with suppress(OSError):
                write(None)

    def read(self, checkpoint: Path, model: GPT2Model) -> dict[str, Tensor]:
        """The tensors of a checkpoint, as far as this process holds those of the model.

        A process that the checkpoint knows no random states of goes on with those it has.
        """
        tensors = read_shards(checkpoint, like=dict(model.named_parameters()))
        mine = {} if self.is_first else below(f"random-{self.ranks.rank}/", tensors)
        if not self.is_first:
            states = mine or random_states()
            tensors |= {f"random/{name}": state for name, state in states.items()}
        return tensors

    def draw_apart(self) -> None:
        """Lets every process but the first, which is as one alone, draw dropout of its own."""
        if not self.is_first:
            torch.manual_seed(torch.initial_seed() + self.ranks.rank)


@dataclass(frozen=True)
class Replicated(Parallel):
    """DDP: every process holds the whole model."""

    def objective(self, model: GPT2Model, loss_fn: LossFunction) -> Objective:
        """The loss of a batch; a backward pass can add up the gradients of all processes."""
        self.draw_apart()
        objective = DistributedDataParallel(
            ModelWithLoss(model, loss_fn), gradient_as_bucket_view=True
        )  # the gradients lie where they are exchanged from: half the memory, no copy
        objective.register_comm_hook(None, add_up)
        return objective

    def synchronize(self, objective: Objective, *, now: bool) -> None:
        """Says whether the next backward pass adds up the gradients of all processes."""
        assert isinstance(objective, DistributedDataParallel)
        objective.require_backward_grad_sync = now  # what its no_sync() sets

    def describe(self) -> str:
        """One line for the user."""
        return f"{super().describe()}, the model in each (ddp)"

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors in full, in the first process; nothing in the others."""
        return dict(tensors) if self.is_first else {}


@dataclass(frozen=True)
class Sharded(Parallel):
    """FSDP2: every process holds 1/n of the weights, gradients and optimizer states.

    Embeddings, head and last norm make one group, which the loss finds gathered, as it runs
    inside the outermost forward pass. In bf16 the blocks are gathered as bf16, half the bytes;
    what is kept and what is added up stays fp32, and so does the residual stream.
    """

    def objective(self, model: GPT2Model, loss_fn: LossFunction) -> Objective:
        """The loss of a batch; a backward pass can add up the gradients of all processes."""
        self.draw_apart()
        mesh = self.mesh
        narrow = MixedPrecisionPolicy(
            param_dtype=self.precision, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for block in model.blocks:
            fully_shard(block, mesh=mesh, mp_policy=narrow)
        objective = ModelWithLoss(model, loss_fn)
        fully_shard(objective, mesh=mesh)
        for module in objective.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo has no other
        objective.register_forward_hook(deal_out_again)
        return objective

    def synchronize(self, objective: Objective, *, now: bool) -> None:
        """Says whether the next backward pass adds up the gradients of all processes."""
        assert isinstance(objective, FSDPModule)
        objective.set_requires_gradient_sync(now)

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """The length of the whole gradient."""
        return full_tensor(super().norm(gradients))

    def describe(self) -> str:
        """One line for the user."""
        return f"{super().describe()}, a share of the model in each (fsdp)"

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors in full, in the first process; nothing in the others.

        One after the other, so that a GPU holds one of them at a time.
        """
        gathered = {}
        for name, tensor in tensors.items():
            full = full_tensor(tensor)
            if self.is_first:
                gathered[name] = full.cpu()
        return gathered


class ModelWithLoss(nn.Module):
    """The model up to its loss: one module, so that weights are there as long as both need them."""

    def __init__(self, model: GPT2Model, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """A batch -> the sum of the losses, the count of targets, what else to log."""
        return self.loss_fn(self.model, batch)


@dataclass
class Attempt:
    """How something ended that may fail for a reason that the user should know."""

    answer: object = None
    error: ValueError | OSError | None = None


def attempt(work: Callable[[], object]) -> Attempt:
    """Does it and keeps the error, so that the other processes can hear of it first."""
    try:
        return Attempt(answer=work())
    except (ValueError, OSError) as error:
        return Attempt(error=error)


def add_up(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """DDP's exchange of gradients, without its division by the number of processes."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


def deal_out_again(objective: nn.Module, batch: object, losses: object) -> None:
    """After an evaluation the outermost tensors are shares once more; no backward pass does it."""
    if not torch.is_grad_enabled() and isinstance(objective, FSDPModule):
        objective.reshard()


def new_group(timeout: timedelta) -> dist.ProcessGroup:
    """All processes, connected on the CPU, for exchanges that may take long."""
    group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)
    return group


def is_broken_connection(error: RuntimeError) -> bool:
    """Whether the exchange failed, not the computation; gloo has no class for its errors."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
