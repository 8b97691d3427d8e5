"""Several processes that train one model, each on its own windows.

    DDP    each holds the whole model; the last backward pass of a step sums the gradients
    FSDP2  each holds 1/n of every tensor; a block is gathered while it is computed, and its
           gradient is summed and scattered again

Gradients are summed, never averaged: the trainer divides once, by the number of targets of all
processes, so a step is the same for any number of them. torchrun starts the processes; gloo
connects CPUs, NCCL connects GPUs.                     Li et al. 2020; Zhao et al. 2023
Previous: runtime.py.  Next: choose_runtime.py.
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
from training.checkpoint import copy_to_cpu, strip_prefix
from training.dtensor import full_tensor, local_part, part_like
from training.random_state import random_states
from training.runtime import Batch, LossFunction, Objective, Runtime, Save
from training.sharded_checkpoint import read_shards, wait_for_shards, write_shards
from training.sums import Sums

TIMEOUT = timedelta(minutes=10)  # of one exchange; compiling at unequal speed takes minutes
LONG_TIMEOUT = timedelta(days=1)  # while the first process of a host prepares the text
FAILED = 2  # the exit status of processes that end because another one cannot go on

Result = TypeVar("Result")


@dataclass(frozen=True)
class ParallelRuntime(Runtime):
    """What DDP and FSDP2 have in common."""

    @contextmanager
    def process_group(self) -> Iterator[None]:
        """Inside this context the processes can exchange tensors.

        Raises ConnectionError where one of them is gone.
        """
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.set_device(self.device)
        try:
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
            _ = self.save_group  # all processes make a group together, so not in a thread
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
        """Returns a line about the device, the precision, the blocks and the processes."""
        return f"{super().describe()}; {self.ranks.n_ranks} processes"

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Returns the sum of the tensors of all processes."""
        dist.all_reduce(values)
        return values

    def all_reduce_max(self, value: int) -> int:
        """Returns the largest of the numbers of all processes."""
        values = torch.tensor(value)  # on the CPU, which avoids a device sync
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def on_rank_zero(self, work: Callable[[], Result]) -> Result:
        """Calls work() in the first process and returns its result in all of them.

        Where work() raises ValueError or OSError, all processes end.
        """
        outcome = attempt(work) if self.is_rank_zero else Outcome()
        self.end_if_failed(outcome)
        results = [outcome.result]
        dist.broadcast_object_list(results, device=torch.device("cpu"))
        return results[0]  # pyright: ignore[reportReturnType]  end_if_failed() let only results pass

    def local_rank_zero_first(self, work: Callable[[], Result]) -> Result:
        """Calls work() in each process, and in the first one of each host before the others.

        So the first one can write files that the others only read. Where work() raises ValueError
        or OSError, all processes end.
        """
        group = new_group(LONG_TIMEOUT)
        outcome = Outcome()
        for is_first_turn in (True, False):
            if (self.ranks.local_rank == 0) is is_first_turn:
                outcome = attempt(work)
            self.end_if_failed(outcome, group)
        dist.destroy_process_group(group)
        return outcome.result  # pyright: ignore[reportReturnType]  end_if_failed(), as above

    def end_if_failed(self, outcome: "Outcome", group: dist.ProcessGroup | None = None) -> None:
        """Ends all processes where the work of one has failed; that one raises its error."""
        failed = torch.tensor(int(outcome.error is not None))
        dist.all_reduce(failed, dist.ReduceOp.MAX, group=group)
        if outcome.error is not None:
            raise outcome.error
        if failed:
            sys.exit(FAILED)

    @cached_property
    def save_group(self) -> dist.ProcessGroup:
        """All processes once more, for the threads that write checkpoints beside the training."""
        return new_group(LONG_TIMEOUT)

    @cached_property
    def mesh(self) -> DeviceMesh:
        """All processes in a row, with their devices."""
        return init_device_mesh(self.device.type, (self.ranks.n_ranks,))

    @cached_property
    def cpu_mesh(self) -> DeviceMesh:
        """All processes in a row, with their main memories."""
        return init_device_mesh("cpu", (self.ranks.n_ranks,))

    def copy_to_cpu(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns copies in main memory, which a thread can write while training goes on.

        The first process's random states have the names that they have in a run of one process.
        """
        prefix = f"random-{self.ranks.rank}/" if self.ranks.rank else "random/"
        parts = copy_to_cpu({name: local_part(tensor) for name, tensor in tensors.items()})
        return {
            name.replace("random/", prefix): part_like(parts[name], tensor, self.cpu_mesh)
            for name, tensor in tensors.items()
        }

    def save(self, save: Save, tensors: dict[str, Tensor]) -> None:
        """Calls save(write) in the first process; write(folder) writes the tensors of all.

        The others take part in every write. Where one cannot write, the first one raises OSError,
        and all end.
        """

        def write(folder: Path | None) -> None:
            folders = [folder]
            dist.broadcast_object_list(folders, group=self.save_group, device=torch.device("cpu"))
            assert folders[0] is not None
            write_shards(folders[0], tensors, self.save_group)

        def write_and_wait(folder: Path) -> None:
            write(folder)
            wait_for_shards(folder, self.ranks.n_ranks)

        if self.is_rank_zero:
            save(write_and_wait)
        else:
            with suppress(OSError):
                write(None)

    def read(self, checkpoint: Path, model: GPT2Model) -> dict[str, Tensor]:
        """Returns the tensors of a checkpoint, of sharded parameters this process's part.

        A process that wrote no random states into the checkpoint keeps those it has.
        """
        tensors = read_shards(checkpoint, like=dict(model.named_parameters()))
        if not self.is_rank_zero:
            states = strip_prefix(f"random-{self.ranks.rank}/", tensors) or random_states()
            tensors |= {f"random/{name}": state for name, state in states.items()}
        return tensors

    def seed_by_rank(self) -> None:
        """Gives every process its own dropout; the first one keeps that of a single process."""
        if not self.is_rank_zero:
            torch.manual_seed(torch.initial_seed() + self.ranks.rank)


@dataclass(frozen=True)
class DDPRuntime(ParallelRuntime):
    """DDP: every process holds the whole model."""

    def objective(self, model: GPT2Model, loss_fn: LossFunction) -> Objective:
        """Returns the function from a batch to its loss, whose gradients DDP sums."""
        self.seed_by_rank()
        objective = DistributedDataParallel(
            ModelWithLoss(model, loss_fn), gradient_as_bucket_view=True
        )  # gradients are views of the buffers that are exchanged: half the memory, no copy
        objective.register_comm_hook(None, sum_hook)
        return objective

    def sync_gradients(self, objective: Objective, *, now: bool) -> None:
        """Turns the all-reduce of gradients in the next backward pass on or off."""
        assert isinstance(objective, DistributedDataParallel)
        objective.require_backward_grad_sync = now  # what its no_sync() sets

    def describe(self) -> str:
        """Returns a line about the device, the precision, the blocks and the processes."""
        return f"{super().describe()}, the model in each (ddp)"

    def gather_full(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the whole tensors in the first process, and nothing in the others."""
        return dict(tensors) if self.is_rank_zero else {}


@dataclass(frozen=True)
class FSDPRuntime(ParallelRuntime):
    """FSDP2: every process holds 1/n of the weights, gradients and optimizer states.

    Embeddings, head and last norm are one group, which is gathered while the loss is computed: the
    loss runs inside the outermost forward pass. In bf16 the blocks are gathered as bf16, half the
    bytes; stored weights, summed gradients and the residual stream stay fp32.
    """

    def objective(self, model: GPT2Model, loss_fn: LossFunction) -> Objective:
        """Returns the function from a batch to its loss, whose gradients FSDP2 sums."""
        self.seed_by_rank()
        policy = MixedPrecisionPolicy(
            param_dtype=self.precision, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for block in model.blocks:
            fully_shard(block, mesh=self.mesh, mp_policy=policy)
        objective = ModelWithLoss(model, loss_fn)
        fully_shard(objective, mesh=self.mesh)
        for module in objective.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo has no other
        objective.register_forward_hook(reshard_after_eval)
        return objective

    def sync_gradients(self, objective: Objective, *, now: bool) -> None:
        """Turns the reduce-scatter of gradients in the next backward pass on or off."""
        assert isinstance(objective, FSDPModule)
        objective.set_requires_gradient_sync(now)

    def grad_norm(self, model: nn.Module) -> Tensor:
        """Returns the length of the gradient of all parameters together."""
        return full_tensor(super().grad_norm(model))

    def describe(self) -> str:
        """Returns a line about the device, the precision, the blocks and the processes."""
        return f"{super().describe()}, a shard of the model in each (fsdp)"

    def gather_full(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the whole tensors in the first process, and nothing in the others.

        They are gathered one after the other, so that a GPU holds one of them at a time.
        """
        gathered = {}
        for name, tensor in tensors.items():
            full = full_tensor(tensor)
            if self.is_rank_zero:
                gathered[name] = full.cpu()
        return gathered


class ModelWithLoss(nn.Module):
    """The model and its loss in one module, so that weights stay gathered as long as both run."""

    def __init__(self, model: GPT2Model, loss_fn: LossFunction) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
        """Returns the sum of a batch's losses, the number of its targets, further sums."""
        return self.loss_fn(self.model, batch)


@dataclass
class Outcome:
    """The result of work, or the error for which all processes end."""

    result: object = None
    error: ValueError | OSError | None = None


def attempt(work: Callable[[], object]) -> Outcome:
    """Returns the outcome of work(); its error is kept until all processes know of it."""
    try:
        return Outcome(result=work())
    except (ValueError, OSError) as error:
        return Outcome(error=error)


def sum_hook(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Sums a bucket of gradients over all processes, as DDP does, but does not average them."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


def reshard_after_eval(objective: nn.Module, batch: object, losses: object) -> None:
    """Reshards the root module after evaluation; only a backward pass would otherwise."""
    if not torch.is_grad_enabled() and isinstance(objective, FSDPModule):
        objective.reshard()


def new_group(timeout: timedelta) -> dist.ProcessGroup:
    """Returns a group of all processes, connected on the CPU, for exchanges that take long."""
    group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)
    return group


def is_broken_connection(error: RuntimeError) -> bool:
    """Returns whether an exchange failed, not a computation; gloo has no class for its errors."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)
