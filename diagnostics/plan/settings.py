"""PlanCommand: the settings of `plan`, over those of a preset, a run or a config.json.

Next: speed.py.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from cfg_gpt2 import (
    DEFAULT_PRESET,
    DataConfig,
    GPT2Config,
    TrainConfig,
    preset,
    require,
    require_count,
)
from commands.flags import parse_flags, value_of
from commands.train_settings import read_config_of
from diagnostics.plan.speed import BYTES_PER_TOKEN, GPUS, UTILIZATION

UNITS = {"k": 3, "m": 6, "g": 9, "b": 9, "bn": 9, "t": 12}  # as powers of ten, in lower case


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
    tokens: float | None = None
    """to train on, such as 9e9; None: as --train.max-steps or --config say, or once through the
    text of --data.path, or 20 per parameter."""
    tokens_per_second: float | None = None  # of one GPU, measured; None: assumed by --utilization
    utilization: float = UTILIZATION
    """the fraction of the maker's rate that a whole training step reaches; 0.3, which nanoGPT
    reaches with 124M on A100, is a guess for every other model and GPU."""
    network: float | None = None  # GB per second between machines, of a whole machine
    json: bool = False  # everything as one line of JSON
    model: GPT2Config = field(default_factory=GPT2Config)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    steps: Annotated[int | None, tyro.conf.Suppress] = None  # of --train.max-steps or --config
    reads_text: Annotated[bool, tyro.conf.Suppress] = False  # whether a --data flag is given

    def __post_init__(self) -> None:
        if self.gpus is not None:
            require_count("--gpus", self.gpus, 10**6, "; leave it out for this machine")
        require(
            self.gpu is None or self.gpu in GPUS,
            f"--gpu {self.gpu} is not in the table; choose from {', '.join(GPUS)}, "
            "or give --gpu-memory and --tokens-per-second",
        )
        for name in ("gpu_memory", "tokens", "tokens_per_second", "network"):
            value = getattr(self, name)
            require(
                value is None or 1e-6 <= value <= 1e18,
                f"--{name.replace('_', '-')} {value} must be a number above 0, up to 1e18",
            )
        require(
            1e-6 <= self.utilization <= 1,
            f"--utilization {self.utilization} must lie above 0 and at most 1; try {UTILIZATION}",
        )
        n_ranks, n_windows = self.gpus or 1, self.train.batch_size
        require(
            n_windows >= n_ranks,
            f"--train.batch-size {n_windows} leaves {n_ranks - n_windows} of --gpus {n_ranks} "
            f"without a window; try --train.batch-size {8 * n_ranks}",
        )
        require(
            n_ranks == 1 or self.train.strategy != "single",
            f"--train.strategy single is one process, --gpus {n_ranks} needs ddp or fsdp",
        )


def read_plan_command(arguments: list[str]) -> PlanCommand:
    """Returns the settings of `plan`: default < --config or --preset < flag.

    Raises ValueError where flags are wrong or exclude each other, FileNotFoundError where
    --config names no file.
    """
    preset_name, config = value_of("--preset", arguments), value_of("--config", arguments)
    require(
        preset_name is None or config is None,
        "--preset and --config exclude each other; choose one",
    )
    require_number_of_tokens(value_of("--tokens", arguments))
    base = read_config_of("--config", config) if config else preset(preset_name or DEFAULT_PRESET)
    defaults = PlanCommand(model=base.model, data=base.data, train=base.train)
    command = parse_flags(PlanCommand, "plan", arguments, defaults)
    require(
        command.tokens is None or value_of("--train.max-steps", arguments) is None,
        f"--tokens and --train.max-steps {command.train.max_steps} exclude each other; choose one",
    )
    strategy = command.train.strategy
    require(
        (command.gpus or 1) > 1 or strategy in ("auto", "single"),
        f"--train.strategy {strategy} is for several GPUs; give --gpus 2 or more",
    )
    has_steps = config or value_of("--train.max-steps", arguments)
    return replace(
        command,
        steps=command.train.max_steps if has_steps else None,
        reads_text=any(argument.startswith("--data.") for argument in arguments),
    )


def require_number_of_tokens(given: str | None) -> None:
    """Raises ValueError for a --tokens in words such as 9B or 20GB, with the number to write."""
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?) ?(k|m|g|b|bn|t|[kmgt]i?b)", (given or "").lower())
    if match is None:
        return
    is_size = len(match[2]) > 1 and match[2] != "bn"
    number = float(match[1]) * 10 ** UNITS[match[2][0] if is_size else match[2]]
    require(
        not is_size,
        f"--tokens {given} is the size of a text; name the text by --data.path, or give "
        f"--tokens {number / BYTES_PER_TOKEN:.2g}, of {BYTES_PER_TOKEN} bytes of English text each",
    )
    raise ValueError(f"--tokens {given} is no number; write --tokens {number:g}")
