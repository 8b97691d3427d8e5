"""`python main.py plan`: what a training run needs, before it is started.

Nothing is trained: sizes are counted, and what cannot be counted is assumed and said.
Previous: memory.py.
"""

import json
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from cfg_gpt2 import DEFAULT_PRESET, GPT2Config, TrainConfig, preset, require
from commands.flags import parse_flags
from data.stream import token_dtype
from diagnostics.plan.memory import Memory, Setup, Strategy
from diagnostics.plan.speed import GIGA, GPUS, GPUS_IN_A_MACHINE, UTILIZATION, Gpu, Traffic
from run_directory.config_file import read_config
from training.flops import operations, parameters
from training.machine import memory_size
from training.progress import new_console
from training.runtime import choose_runtime

# of a GPU's memory: its context and libraries take some 0.5 to 1 GB, and the allocator's blocks
# do not fit each other
RESERVED = 0.08
TOKENS_A_PARAMETER = 20  # Hoffmann et al. 2022, table 3: 1.5 trillion tokens for 67 billion
# OpenWebText by GPT-2's vocabulary: nanoGPT counts 9.0 billion tokens in some 40 GB of text
BYTES_A_TOKEN = 4.4
LARGE = 10_000_000  # weights in the blocks from which on train compiles, as training/runtime.py


@dataclass(frozen=True, kw_only=True)
class PlanCommand:
    """Count what a training run needs: memory, time, disk. Nothing is trained."""

    preset: str = DEFAULT_PRESET
    """tiny, shakespeare-char, book, gpt2, gpt2-medium, gpt2-large or gpt2-xl."""
    config: Path | None = None  # a config.json or a run directory, whose settings are taken
    gpus: int | None = None  # how many; None: one, or this machine where --gpu is not given
    gpu: str | None = None
    """h100, h200, a100, a100-40gb, l40s, rtx4090 or rtx3090; None: this machine's, or h100 where
    --gpus asks for some and there is none here."""
    gpu_memory: float | None = None  # GB of each, where it differs from the named one's
    tokens: float | None = None  # to learn from, such as 9e9; None: 20 a parameter
    tokens_per_second: float | None = None  # of one GPU, measured; None: assumed by --utilization
    utilization: float = UTILIZATION
    """the share of the stated rate that a whole training step reaches; 0.3 is what nanoGPT
    reaches with 124M on A100."""
    network: float | None = None  # GB a second between machines, of a whole machine
    json: bool = False  # everything as one line of JSON
    model: GPT2Config = field(default_factory=GPT2Config)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        require(
            self.gpus is None or self.gpus >= 1,
            f"--gpus {self.gpus} must be 1 or more; leave it out for this machine",
        )
        known = ", ".join(GPUS)
        require(
            self.gpu is None or self.gpu in GPUS,
            f"--gpu {self.gpu} is not in the table; choose from {known}, "
            "or give --gpu-memory and --tokens-per-second",
        )
        for name in ("gpu_memory", "tokens", "tokens_per_second", "network"):
            value = getattr(self, name)
            flag = "--" + name.replace("_", "-")
            above = value is None or 0 < value < float("inf")
            require(above, f"{flag} {value} must be a number above 0")
        require(
            0 < self.utilization <= 1,
            f"--utilization {self.utilization} must lie above 0 and at most 1; try {UTILIZATION}",
        )
        ranks, windows = self.gpus or 1, self.train.batch_size
        require(
            windows >= ranks,
            f"--train.batch-size {windows} leaves {ranks - windows} of --gpus {ranks} without a "
            f"window; try --train.batch-size {8 * ranks}",
        )
        require(
            ranks == 1 or self.train.strategy != "single",
            f"--train.strategy single is one process, --gpus {ranks} needs ddp or fsdp",
        )


def read_plan_command(arguments: list[str]) -> PlanCommand:
    """Flags over --config's settings or --preset's."""
    found = {}
    for flag in ("--preset", "--config"):
        for i, argument in enumerate(arguments):
            if argument.startswith(flag + "="):
                found[flag] = argument.partition("=")[2]
            elif argument == flag and i + 1 < len(arguments):
                found[flag] = arguments[i + 1]
    require(len(found) < 2, "--preset and --config exclude each other; choose one")
    base = preset(found.get("--preset", DEFAULT_PRESET))
    if "--config" in found:
        base = read_config(Path(found["--config"]))
    command = parse_flags(
        PlanCommand, "plan", arguments, PlanCommand(model=base.model, train=base.train)
    )
    strategy = command.train.strategy
    require(
        (command.gpus or 1) > 1 or strategy in ("auto", "single"),
        f"--train.strategy {strategy} is for several GPUs; give --gpus 2 or more",
    )
    return command


@dataclass(frozen=True)
class Plan:
    """Everything that follows from the settings."""

    command: PlanCommand

    @cached_property
    def gpu(self) -> Gpu | None:
        """The named one, this machine's, or h100; None: a processor, or only a memory is given."""
        command = self.command
        if command.gpu or (command.gpus and not torch.cuda.is_available()):
            named = None if command.gpu is None and command.gpu_memory else command.gpu or "h100"
            return GPUS[named] if named else None
        if torch.cuda.is_available() and not command.gpu_memory:
            name = torch.cuda.get_device_name()
            squeezed = name.lower().replace(" ", "")
            key = next((key for key in GPUS if key in squeezed), None)
            return GPUS[key] if key else None
        return None

    @property
    def device(self) -> str:
        command = self.command
        asked = command.gpu or command.gpus or command.gpu_memory
        return "cuda" if asked or torch.cuda.is_available() else "cpu"

    @property
    def n_ranks(self) -> int:
        return self.command.gpus or 1

    @property
    def memory_bytes(self) -> float:
        """Of each GPU or of this machine; 0 where nobody says."""
        if self.command.gpu_memory:
            return self.command.gpu_memory * GIGA
        if self.gpu:
            return self.gpu.memory * GIGA
        if self.device == "cuda":
            return torch.cuda.get_device_properties(0).total_memory
        return memory_size()

    @cached_property
    def bf16(self) -> bool:
        precision = self.command.train.precision
        if precision != "auto" or self.device == "cuda":
            return precision != "fp32"
        return choose_runtime(TrainConfig(device="cpu")).precision == torch.bfloat16

    @cached_property
    def compiled(self) -> bool:
        choice, sizes = self.command.train.compile, self.command.model
        if self.device == "cpu":
            return choose_runtime(replace(self.command.train, device="cpu"), sizes).compiled
        return choice == "on" or (
            choice == "auto" and 12 * sizes.n_layer * sizes.n_embd**2 >= LARGE
        )

    @property
    def share(self) -> int:
        """Windows of a step for one GPU."""
        return -(-self.command.train.batch_size // self.n_ranks)

    def memory(self, micro_batch: int, strategy: Strategy) -> Memory:
        """Of one process."""
        command = self.command
        return Memory(
            Setup(
                model=command.model,
                device=self.device,
                bf16=self.bf16,
                compiled=self.compiled,
                muon=command.train.optimizer == "muon",
                micro_batch=micro_batch,
                accumulates=micro_batch < self.share,
                strategy=strategy,
                n_ranks=self.n_ranks,
                checkpointing=command.train.activation_checkpointing,
            )
        )

    def fits(self, micro_batch: int, strategy: Strategy) -> bool:
        """Whether the memory is enough; where nobody knows it, everything fits."""
        room = self.memory_bytes * (1 - RESERVED)
        return not room or self.memory(micro_batch, strategy).peak <= room

    @cached_property
    def strategy(self) -> Strategy:
        """The one asked for, or the simplest in which one window fits."""
        asked = self.command.train.strategy
        if asked != "auto":
            return asked
        if self.n_ranks == 1:
            return "single"
        return "ddp" if self.fits(1, "ddp") else "fsdp"

    @cached_property
    def largest(self) -> int:
        """The most windows of a micro-batch that fit, at most the share of one GPU; 0: none."""
        low, high = 0, self.share
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.fits(middle, self.strategy) else (low, middle - 1)
        return low

    @property
    def micro_batch(self) -> int:
        """The one asked for; auto or none: the largest that fits."""
        asked = self.command.train.micro_batch
        return min(asked if isinstance(asked, int) else self.largest, self.share)

    @cached_property
    def chosen(self) -> Memory:
        """The memory of the micro-batch that is used.

        Raises ValueError where it does not fit, with what would.
        """
        room = f"{self.memory_bytes * (1 - RESERVED) / GIGA:.1f} GB"
        if self.largest == 0:
            need = self.memory(1, self.strategy).peak / GIGA
            raise ValueError(
                f"one window of {self.command.model.context_length} tokens needs {need:.1f} GB, "
                f"and {room} can be used; {self.what_would_fit()}"
            )
        asked = self.command.train.micro_batch
        if self.micro_batch > self.largest:
            need = self.memory(self.micro_batch, self.strategy).peak / GIGA
            raise ValueError(
                f"--train.micro-batch {asked} needs {need:.1f} GB, and {room} can be used; "
                f"try --train.micro-batch {self.largest}"
            )
        return self.memory(self.micro_batch, self.strategy)

    def what_would_fit(self) -> str:
        """The first of some changes that is enough."""
        command, train = self.command, self.command.train
        many, twice = 8 * GPUS_IN_A_MACHINE, replace(train, activation_checkpointing=True)
        gpus, changes = self.n_ranks, {"--train.activation-checkpointing": (self.n_ranks, twice)}
        if gpus > 1:
            changes["--train.strategy fsdp"] = (gpus, replace(train, strategy="fsdp"))
        for count in sorted({max(2, gpus), many}):
            batch_size = max(train.batch_size, count)
            flags = f"--gpus {count} --train.strategy fsdp --train.activation-checkpointing"
            if batch_size > train.batch_size:
                flags += f" --train.batch-size {batch_size}"
            changes[flags] = (count, replace(twice, strategy="fsdp", batch_size=batch_size))
        for flags, (count, changed) in changes.items():
            if Plan(replace(command, gpus=count if count > 1 else command.gpus,
                            train=changed)).largest:  # fmt: skip
                return f"it would fit with {flags}"
        need = self.memory(1, self.strategy).peak / (1 - RESERVED) / GIGA
        return f"it would fit into --gpu-memory {need:.0f}"

    # time -----------------------------------------------------------------------------------

    @cached_property
    def operations(self) -> float:
        """Of one token, in training."""
        return operations(self.command.model, self.command.model.context_length).training

    @cached_property
    def speed(self) -> float | None:
        """Tokens a second of one GPU; None where neither a rate nor a measurement is known."""
        if self.command.tokens_per_second:
            return self.command.tokens_per_second
        if self.gpu is None:
            return None
        rate = (self.gpu.bf16 if self.bf16 else self.gpu.fp32) * 1e12
        twice = self.command.train.activation_checkpointing  # the forward pass
        again = 4 / 3 if twice else 1
        return rate * self.command.utilization / (self.operations * again)

    @property
    def link(self) -> float:
        """GB a second of the slowest link."""
        gpu = self.gpu or GPUS["h100"]
        if self.n_ranks <= GPUS_IN_A_MACHINE:
            return gpu.link
        return min(gpu.link, self.command.network or gpu.network)

    @cached_property
    def step_seconds(self) -> float | None:
        """Computing and waiting; None where the speed is unknown."""
        if self.speed is None:
            return None
        computing = self.share * self.command.model.context_length / self.speed
        return computing + self.traffic.waits(computing)

    @cached_property
    def traffic(self) -> Traffic:
        return Traffic(
            n_ranks=self.n_ranks,
            fsdp=self.strategy == "fsdp",
            n_parameters=parameters(self.command.model),
            gathered_bytes=2 if self.bf16 else 4,
            n_micro_batches=-(-self.share // max(1, self.micro_batch)),
            gigabytes_a_second=self.link,
        )

    @property
    def tokens_per_second(self) -> float | None:
        """Of all GPUs together."""
        tokens_a_step = self.command.train.batch_size * self.command.model.context_length
        return tokens_a_step / self.step_seconds if self.step_seconds else None

    @property
    def optimal_tokens(self) -> int:
        return TOKENS_A_PARAMETER * parameters(self.command.model)

    @property
    def tokens(self) -> float:
        return self.command.tokens or self.optimal_tokens

    @property
    def days(self) -> float | None:
        return self.tokens / self.tokens_per_second / 86400 if self.tokens_per_second else None

    @property
    def token_bytes(self) -> int:
        """In a token file."""
        return token_dtype(self.command.model.vocab_size).itemsize

    @property
    def where(self) -> str:
        """In words."""
        if self.device == "cpu":
            return f"this machine, {os.cpu_count()} processors"
        name = self.gpu.name if self.gpu else "GPU"
        return f"{self.n_ranks} x {name}, {self.memory_bytes / GIGA:.0f} GB each"


def plan(arguments: list[str]) -> int:
    """Counts, and shows the table."""
    made = Plan(read_plan_command(arguments))
    record = record_of(made)  # first, for it says what does not fit
    if made.command.json:
        print(json.dumps(record))
        return 0
    console = new_console()
    show(console, rows_of(made))
    console.print("\n" + sentence_of(made))
    for line in assumptions(made):
        console.print(f"  {line}")
    return 0


def record_of(made: Plan) -> dict[str, object]:
    """For --json: bytes, tokens, seconds."""
    memory, sizes = made.chosen, made.command.model
    return {
        "parameters": parameters(sizes),
        "operations_per_token": made.operations,
        "device": made.where,
        "n_gpus": made.n_ranks,
        "strategy": made.strategy,
        "precision": "bf16" if made.bf16 else "fp32",
        "compiled": made.compiled,
        "micro_batch": made.micro_batch,
        "largest_micro_batch": made.largest,
        "memory": {name: n_bytes for name, n_bytes in memory.parts.items() if n_bytes},
        "peak_memory": memory.peak,
        "peak_moment": memory.moment,
        "memory_there": round(made.memory_bytes),
        "tokens_per_second": made.tokens_per_second,
        "tokens_per_second_of_one": made.speed,
        "tokens": made.tokens,
        "optimal_tokens": made.optimal_tokens,
        "days": made.days,
        "token_file_bytes": made.tokens * made.token_bytes,
        "text_bytes": made.tokens * BYTES_A_TOKEN,
        "checkpoint_bytes": checkpoint_bytes(made),
        "assumptions": assumptions(made),
    }


def checkpoint_bytes(made: Plan) -> int:
    """Of the largest, and the weights beside it."""
    parts = Memory(replace(made.chosen.setup, strategy="single", n_ranks=1)).parts
    return 2 * parts["weights"] + parts["optimizer"]


def rows_of(made: Plan) -> list[tuple[str, str]]:
    """The table: what, and how much."""
    memory, sizes, train = made.chosen, made.command.model, made.command.train
    rows = [
        ("model", f"{parameters(sizes):,} parameters"),
        ("operations", f"{made.operations:,.0f} a token in training"),
        ("where", f"{made.where}; {made.strategy}, {'bf16 products' if made.bf16 else 'fp32'}, "
                  f"{'blocks compiled' if made.compiled else 'blocks as written'}"),
        ("step", f"{train.batch_size} windows of {sizes.context_length} tokens, "
                 f"{made.micro_batch} at a time in each process; at most {made.largest} of "
                 f"{made.share} fit"),
    ]  # fmt: skip
    rows += [(f"  {name}", gigabytes(n)) for name, n in memory.parts.items() if n]
    rows.append(
        ("memory", f"{gigabytes(memory.peak)} at most, in: {memory.moment}; "
                   f"there {gigabytes(made.memory_bytes)}")
    )  # fmt: skip
    rule = f"{made.optimal_tokens:,} by the rule of {TOKENS_A_PARAMETER} a parameter"
    rows.append(("tokens", f"{made.tokens:,.0f}; compute-optimal: {rule}"))
    if made.tokens_per_second and made.days:
        steps = made.tokens / (train.batch_size * sizes.context_length)
        rows.append(("speed", f"{made.tokens_per_second:,.0f} tokens/s"))
        rows.append(("time", f"{duration(made.days)}, {steps:,.0f} steps"))
    rows.append(
        ("disk", f"{gigabytes(made.tokens * made.token_bytes)} of tokens, from some "
                 f"{gigabytes(made.tokens * BYTES_A_TOKEN)} of text; "
                 f"{gigabytes(checkpoint_bytes(made))} a checkpoint with model.safetensors")
    )  # fmt: skip
    return rows


def show(console: Console, rows: list[tuple[str, str]]) -> None:
    """A table on a terminal; elsewhere plain lines."""
    if console.is_terminal:
        table = Table("", "")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        console.print(f"{name.ljust(width)}  {value}")


def sentence_of(made: Plan) -> str:
    """In plain words."""
    fits = f"It fits: {gigabytes(made.chosen.peak)} of {gigabytes(made.memory_bytes)}"
    if not made.memory_bytes:
        fits = f"It needs {gigabytes(made.chosen.peak)}; this system does not say how much it has"
    if made.days is None:
        return (
            f"{fits}. How long it takes is unknown here: measure with python main.py benchmark "
            "training, then give --tokens-per-second."
        )
    return f"{fits}, and {made.tokens / 1e9:,.2f} billion tokens take {duration(made.days)}."


def assumptions(made: Plan) -> list[str]:
    """What was not counted but assumed."""
    command, gpu, lines = made.command, made.gpu, []
    if command.gpus and not command.gpu and gpu and not torch.cuda.is_available():
        lines.append("--gpu h100 is assumed; there is no GPU here")
    if gpu:
        lines.append(f"{gpu.name}: {gpu.memory:g} GB, {gpu.bf16:g} TFLOP/s in bf16, {gpu.fp32:g} "
                     f"in fp32 ({gpu.source})")  # fmt: skip
    if gpu and not command.tokens_per_second:
        lines.append(f"a step reaches {command.utilization:g} of that rate (--utilization)")
    if made.n_ranks > 1:
        sent = made.traffic.sent / GIGA
        lines.append(
            f"each step sends {sent:.2f} GB over links of {made.link:g} GB/s, hidden behind at "
            "most half of the computing; all GPUs are equally fast"
        )
    if made.device == "cpu":
        lines.append(
            "tensors are counted; what malloc keeps of freed ones comes on top, a fifth to a half"
        )
    lines.append(f"{RESERVED:.0%} of the memory stays for libraries and gaps")
    lines.append(
        f"{TOKENS_A_PARAMETER} tokens a parameter is a rule of thumb (Hoffmann et al. 2022); "
        f"a token stands for {BYTES_A_TOKEN} bytes of English text"
    )
    return lines


def gigabytes(n_bytes: float) -> str:
    """2_500_000_000 -> 2.50 GB."""
    return f"{n_bytes / GIGA:,.2f} GB" if n_bytes >= 1e7 else f"{n_bytes / 1e6:,.2f} MB"


def duration(days: float) -> str:
    """In the unit that a person would take."""
    for unit, size in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= 2 * size:
            return f"{days / size:,.1f} {unit}"
    return f"{days * 86400:,.0f} seconds"
