"""PlanCommand: the settings of `plan`, over those of a preset, a run or a config.json.

Next: speed.py.
"""

from dataclasses import dataclass, field
from pathlib import Path

from cfg_gpt2 import DEFAULT_PRESET, GPT2Config, TrainConfig, preset, require
from commands.flags import first_value, parse_flags
from commands.train_settings import read_config_of
from diagnostics.plan.speed import GPUS, UTILIZATION


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
    tokens: float | None = None  # to train on, such as 9e9; None: 20 per parameter
    tokens_per_second: float | None = None  # of one GPU, measured; None: assumed by --utilization
    utilization: float = UTILIZATION
    """the fraction of the maker's rate that a whole training step reaches; 0.3 is what nanoGPT
    reaches with 124M on A100."""
    network: float | None = None  # GB per second between machines, of a whole machine
    json: bool = False  # everything as one line of JSON
    model: GPT2Config = field(default_factory=GPT2Config)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        require(
            self.gpus is None or self.gpus >= 1,
            f"--gpus {self.gpus} must be 1 or more; leave it out for this machine",
        )
        require(
            self.gpu is None or self.gpu in GPUS,
            f"--gpu {self.gpu} is not in the table; choose from {', '.join(GPUS)}, "
            "or give --gpu-memory and --tokens-per-second",
        )
        for name in ("gpu_memory", "tokens", "tokens_per_second", "network"):
            value = getattr(self, name)
            require(
                value is None or 0 < value < float("inf"),
                f"--{name.replace('_', '-')} {value} must be a number above 0",
            )
        require(
            0 < self.utilization <= 1,
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
    preset_name, config = first_value(arguments, "--preset"), first_value(arguments, "--config")
    require(
        preset_name is None or config is None,
        "--preset and --config exclude each other; choose one",
    )
    base = read_config_of("--config", config) if config else preset(preset_name or DEFAULT_PRESET)
    defaults = PlanCommand(model=base.model, train=base.train)
    command = parse_flags(PlanCommand, "plan", arguments, defaults)
    strategy = command.train.strategy
    require(
        (command.gpus or 1) > 1 or strategy in ("auto", "single"),
        f"--train.strategy {strategy} is for several GPUs; give --gpus 2 or more",
    )
    return command
