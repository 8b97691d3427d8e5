"""Plan: memory, time and disk of a training run, computed from its settings alone.

Previous: memory.py.  Next: command.py.
"""

import os
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from cfg_gpt2 import TrainConfig
from data.stream import token_dtype
from diagnostics.plan.memory import Memory, Setup, Strategy
from diagnostics.plan.settings import PlanCommand
from diagnostics.plan.speed import (
    BYTES_PER_TOKEN,
    GIGA,
    GPUS,
    GPUS_PER_MACHINE,
    Gpu,
    Traffic,
)
from diagnostics.plan.text_size import TextSize
from training.choose_runtime import choose_runtime, is_large
from training.flops import operations, parameters
from training.machine import memory_size
from training.snapshots import steps_of_snapshots

# of a GPU's memory: its context and libraries take some 0.5 to 1 GB, and the allocator leaves gaps
RESERVED = 0.08
TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, table 3: 1.5 trillion tokens for 67 billion


@dataclass(frozen=True)
class Plan:
    """Every figure that follows from the settings."""

    command: PlanCommand
    text: TextSize | None = None  # that is trained on, where one is named

    # device ---------------------------------------------------------------------------------

    @cached_property
    def gpu(self) -> Gpu | None:
        """The named GPU, this machine's, or an h100; None: a CPU, or only a memory is given."""
        command = self.command
        if command.gpu or (command.gpus and not torch.cuda.is_available()):
            if command.gpu is None and command.gpu_memory:
                return None
            return GPUS[command.gpu or "h100"]
        if torch.cuda.is_available() and not command.gpu_memory:
            name = torch.cuda.get_device_name().lower().replace(" ", "")
            return next((gpu for key, gpu in GPUS.items() if key in name), None)
        return None

    @property
    def device(self) -> str:
        """cuda or cpu."""
        command = self.command
        asks_for_gpus = command.gpu or command.gpus or command.gpu_memory
        return "cuda" if asks_for_gpus or torch.cuda.is_available() else "cpu"

    @property
    def device_description(self) -> str:
        """The device in words, for the table."""
        if self.device == "cpu":
            return f"this machine, {os.cpu_count()} processors"
        name = self.gpu.name if self.gpu else "GPU"
        return f"{self.n_ranks} x {name}, {self.memory_bytes / GIGA:.0f} GB each"

    @property
    def n_ranks(self) -> int:
        """The number of processes, one per GPU."""
        return self.command.gpus or 1

    @property
    def memory_bytes(self) -> float:
        """The memory of each GPU or of this machine; 0 where the system does not say."""
        if self.command.gpu_memory:
            return self.command.gpu_memory * GIGA
        if self.gpu:
            return self.gpu.memory * GIGA
        if self.device == "cuda":
            return torch.cuda.get_device_properties(0).total_memory
        return memory_size()

    @cached_property
    def bf16(self) -> bool:
        """Whether matmuls run in bf16."""
        precision = self.command.train.precision
        if precision != "auto" or self.device == "cuda":
            return precision != "fp32"
        return choose_runtime(TrainConfig(device="cpu")).precision == torch.bfloat16

    @cached_property
    def compiled(self) -> bool:
        """Whether the blocks are compiled."""
        choice, sizes = self.command.train.compile, self.command.model
        if self.device == "cpu":
            return choose_runtime(replace(self.command.train, device="cpu"), sizes).compiled
        return choice == "on" or (choice == "auto" and is_large(sizes))

    # memory ---------------------------------------------------------------------------------

    @property
    def windows_per_rank(self) -> int:
        """The windows of a step that one GPU computes."""
        return -(-self.command.train.batch_size // self.n_ranks)

    def memory(self, micro_batch: int, strategy: Strategy) -> Memory:
        """Returns the memory of one process with so many windows per micro-batch."""
        command = self.command
        setup = Setup(
            model=command.model,
            device=self.device,
            bf16=self.bf16,
            compiled=self.compiled,
            muon=command.train.optimizer == "muon",
            micro_batch=micro_batch,
            accumulates=micro_batch < self.windows_per_rank,
            strategy=strategy,
            n_ranks=self.n_ranks,
            checkpointing=command.train.activation_checkpointing,
        )
        return Memory(setup)

    @property
    def usable_bytes(self) -> float:
        """The memory that tensors may take; 0 where the system does not say."""
        return self.memory_bytes * (1 - RESERVED)

    def fits(self, micro_batch: int, strategy: Strategy) -> bool:
        """Tells whether the memory is enough; an unknown memory is taken to be."""
        return not self.usable_bytes or self.memory(micro_batch, strategy).peak <= self.usable_bytes

    @cached_property
    def strategy(self) -> Strategy:
        """The given strategy; auto: the simplest one with which one window fits."""
        strategy = self.command.train.strategy
        if strategy != "auto":
            return strategy
        if self.n_ranks == 1:
            return "single"
        return "ddp" if self.fits(1, "ddp") else "fsdp"

    @cached_property
    def largest_micro_batch(self) -> int:
        """The most windows per micro-batch that fit, at most windows_per_rank; 0: none fits."""
        low, high = 0, self.windows_per_rank
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(middle, self.strategy) else (low, middle - 1)
        return low

    @property
    def micro_batch(self) -> int:
        """The given windows per micro-batch; auto or none: the most that fit."""
        given = self.command.train.micro_batch
        n_windows = given if isinstance(given, int) else self.largest_micro_batch
        return min(n_windows, self.windows_per_rank)

    @cached_property
    def memory_at_peak(self) -> Memory:
        """The memory with the micro-batch that is used.

        Raises ValueError where it does not fit, with a change that makes it fit.
        """
        usable = f"{self.usable_bytes / GIGA:.1f} GB"
        if self.largest_micro_batch == 0:
            need = self.memory(1, self.strategy).peak / GIGA
            raise ValueError(
                f"one window of {self.command.model.context_length} tokens needs {need:.1f} GB, "
                f"and {usable} can be used; {self.suggest_change()}"
            )
        if self.micro_batch > self.largest_micro_batch:
            need = self.memory(self.micro_batch, self.strategy).peak / GIGA
            raise ValueError(
                f"--train.micro-batch {self.command.train.micro_batch} needs {need:.1f} GB, and "
                f"{usable} can be used; try --train.micro-batch {self.largest_micro_batch}"
            )
        return self.memory(self.micro_batch, self.strategy)

    def suggest_change(self) -> str:
        """Returns, as words for the user, the first of several changes with which it fits."""
        command, train, n_gpus = self.command, self.command.train, self.n_ranks
        checkpointing = replace(train, activation_checkpointing=True)
        changes = {"--train.activation-checkpointing": (n_gpus, checkpointing)}
        if n_gpus > 1:
            changes["--train.strategy fsdp"] = (n_gpus, replace(train, strategy="fsdp"))
        for count in sorted({max(2, n_gpus), 8 * GPUS_PER_MACHINE}):
            batch_size = max(train.batch_size, count)
            flags = f"--gpus {count} --train.strategy fsdp --train.activation-checkpointing"
            if batch_size > train.batch_size:
                flags += f" --train.batch-size {batch_size}"
            settings = replace(checkpointing, strategy="fsdp", batch_size=batch_size)
            changes[flags] = (count, settings)
        for flags, (count, settings) in changes.items():
            gpus = count if count > 1 else command.gpus
            if Plan(replace(command, gpus=gpus, train=settings)).largest_micro_batch:
                return f"it would fit with {flags}"
        need = self.memory(1, self.strategy).peak / (1 - RESERVED) / GIGA
        return f"it would fit into --gpu-memory {need:.0f}"

    # time -----------------------------------------------------------------------------------

    @cached_property
    def operations(self) -> float:
        """The floating-point operations of one token in training."""
        return operations(self.command.model, self.command.model.context_length).training

    @cached_property
    def speed(self) -> float | None:
        """The tokens per second of one GPU; None where no rate and no measurement is known."""
        if self.command.tokens_per_second:
            return self.command.tokens_per_second
        if self.gpu is None:
            return None
        rate = (self.gpu.bf16 if self.bf16 else self.gpu.fp32) * 1e12
        # with activation checkpointing the forward pass is computed twice
        n_passes = 4 / 3 if self.command.train.activation_checkpointing else 1
        return rate * self.command.utilization / (self.operations * n_passes)

    @property
    def link(self) -> float:
        """The GB per second of the slowest link."""
        gpu = self.gpu or GPUS["h100"]
        if self.n_ranks <= GPUS_PER_MACHINE:
            return gpu.link
        return min(gpu.link, self.command.network or gpu.network)

    @cached_property
    def traffic(self) -> Traffic:
        """The transfers of a step."""
        return Traffic(
            n_ranks=self.n_ranks,
            fsdp=self.strategy == "fsdp",
            n_parameters=parameters(self.command.model),
            gathered_bytes=2 if self.bf16 else 4,
            n_micro_batches=-(-self.windows_per_rank // max(1, self.micro_batch)),
            gigabytes_per_second=self.link,
        )

    @cached_property
    def step_seconds(self) -> float | None:
        """The seconds of a step, transfers included; None where the speed is unknown."""
        if self.speed is None:
            return None
        compute = self.windows_per_rank * self.command.model.context_length / self.speed
        return compute + self.traffic.exposed_seconds(compute)

    @property
    def tokens_per_step(self) -> int:
        """The tokens of one optimizer step, of all GPUs together."""
        return self.command.train.batch_size * self.command.model.context_length

    @property
    def tokens_per_second(self) -> float | None:
        """The tokens per second of all GPUs together."""
        return self.tokens_per_step / self.step_seconds if self.step_seconds else None

    @property
    def optimal_tokens(self) -> int:
        """The compute-optimal number of training tokens."""
        return TOKENS_PER_PARAMETER * parameters(self.command.model)

    @property
    def tokens(self) -> float:
        """The tokens to train on: as asked for, else the text once, else compute-optimal."""
        if self.command.tokens:
            return self.command.tokens
        if self.command.steps:
            return float(self.command.steps * self.tokens_per_step)
        return self.text.n_tokens if self.text else self.optimal_tokens

    @property
    def n_steps(self) -> int:
        """The optimizer steps of the whole run."""
        return max(1, round(self.tokens / self.tokens_per_step))

    @property
    def epochs(self) -> float | None:
        """How often the run goes through the text; None where no text is named."""
        return self.tokens / self.text.n_tokens if self.text else None

    @property
    def days(self) -> float | None:
        """The days of the whole run; None where the speed is unknown."""
        return self.tokens / self.tokens_per_second / 86400 if self.tokens_per_second else None

    # disk -----------------------------------------------------------------------------------

    @property
    def token_file_bytes(self) -> float:
        """The bytes of the token files."""
        n_tokens = self.text.n_tokens if self.text else self.tokens
        return n_tokens * token_dtype(self.command.model.vocab_size).itemsize

    @property
    def text_bytes(self) -> float:
        """The bytes of the text that is named, or of one that has so many tokens."""
        return self.text.n_bytes if self.text else self.tokens * BYTES_PER_TOKEN

    @property
    def checkpoint_bytes(self) -> int:
        """The bytes of a checkpoint, weights and optimizer states, and of model.safetensors."""
        return 2 * self.unsharded["weights"] + self.unsharded["optimizer"]

    @property
    def snapshot_bytes(self) -> int:
        """The bytes of all snapshots of the run."""
        steps = steps_of_snapshots(self.command.train.snapshots, self.n_steps)
        return len(steps) * self.unsharded["weights"]

    @cached_property
    def unsharded(self) -> dict[str, int]:
        """The bytes of weights, moments and the like in a run of one process."""
        return Memory(replace(self.memory_at_peak.setup, strategy="single", n_ranks=1)).parts
