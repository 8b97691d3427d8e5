"""TrainCommand: the settings of `train`, made from its flags before torch is imported.

They come from, in this order, each overriding the one before: the defaults, --preset,
--config FILE (or the run that --resume or --init-from names), the flags.
Previous: flags.py.  Next: init_from.py.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from cfg_gpt2 import (
    DEFAULT_PRESET,
    DataConfig,
    GPT2Config,
    InitFrom,
    RunConfig,
    TrainConfig,
    preset,
    require,
)
from commands.flags import parse_flags, value_of
from commands.nanogpt import hint_for_init_from
from run_directory.chat_template import CHAT_FILE
from run_directory.config_file import read_config
from run_directory.paths import kind_of, user_path
from run_directory.printable import main_command
from training.tensorboard_log import require_tensorboard

TRAINING = TrainConfig(  # weights that are good already want small steps
    max_steps=500,
    batch_size=8,
    learning_rate=1e-4,
    final_learning_rate=1e-5,
    warmup_steps=20,
    eval_every=100,
)


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a GPT-2. Without any flag: a small one, on the embedded corpus, in a few minutes."""

    preset: str = DEFAULT_PRESET
    """tiny, shakespeare-char, book, gpt2, gpt2-medium, gpt2-large or gpt2-xl."""
    config: Path | None = None  # a config.json, such as another run's
    out: Path | None = None  # the new run's directory; None: runs/ and the preset's name
    resume: Path | None = None  # a run directory to continue, exactly where it stopped
    init_from: Path | None = None
    """a run, such as an imported GPT-2: the new run begins with its weights, tokenizer and sizes"""
    model: GPT2Config = field(default_factory=GPT2Config)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def read_train_command(arguments: list[str]) -> TrainCommand:
    """Flags over the settings of --resume, --init-from, --config or --preset over defaults."""
    flags = ("--preset", "--config", "--resume", "--init-from")
    sources = {flag: value_of(flag, arguments) for flag in flags}
    name, config_file, resumed, init_from = sources.values()
    chosen = [flag for flag, value in sources.items() if value]
    require(len(chosen) <= 1, f"{' and '.join(chosen)} exclude each other; choose one")
    base = preset(name or DEFAULT_PRESET)
    if config_file:
        base = read_config_of("--config", config_file)
    if resumed:
        base = read_config(user_path(resumed, "--resume"))
        require_text_run(user_path(resumed, "--resume"))
    if init_from:
        base = settings_from(user_path(init_from, "--init-from"))
    default = TrainCommand(model=base.model, data=base.data, train=base.train)
    command = parse_flags(TrainCommand, "train", arguments, default)
    if command.train.tensorboard:
        require_tensorboard()
    if resumed:
        require(command.out is None, "--out and --resume exclude each other; choose one")
        require_same(command, base)
        assert command.resume
        data = with_own_tokenizer(command.data, base.init_from, command.resume)
        command = replace(command, data=data)
    if command.init_from:
        require_sizes_of(command.init_from, base.model, command.model)
    return command


def require_text_run(run: Path) -> None:
    """Raises ValueError for a run that was finetuned, which learns from no text."""
    go_on = main_command("finetune", "--resume", run)
    require(
        not (run / CHAT_FILE).exists(),
        f"{run} was finetuned; go on with {go_on}, or begin from its weights by --init-from",
    )


def require_same(command: TrainCommand, base: RunConfig) -> None:
    """Raises ValueError unless a run is resumed with its own model and data.

    The text and the vocabulary may lie elsewhere: that they are the same is seen from their tokens.
    """
    places = {name: getattr(base.data, name) for name in ("path", "tokenizer", "cache_dir")}
    unchanged = command.model == base.model and replace(command.data, **places) == base.data
    require(
        unchanged,
        f"--resume {command.resume} keeps its model and data; change --train.* only, and "
        "--data.path for a text that has moved",
    )


def with_own_tokenizer(data: DataConfig, origin: InitFrom | None, run_dir: Path) -> DataConfig:
    """Returns the data settings with the run's own tokenizer where that of --init-from is gone."""
    if origin is None or data.tokenizer != origin.run or Path(origin.run).exists():
        return data
    return replace(data, tokenizer=str(run_dir))


def settings_from(run: Path) -> RunConfig:
    """Returns the defaults of a run that begins from another: its sizes, its tokenizer.

    Raises FileNotFoundError where the run has no config.json.
    """
    hint = hint_for_init_from(str(run))
    if hint and not run.exists():
        raise FileNotFoundError(f"--init-from {run} is no run directory; {hint}")
    model = read_config(run).model
    return RunConfig(model=model, data=DataConfig(tokenizer=str(run)), train=TRAINING)


def require_sizes_of(run: Path, base: GPT2Config, model: GPT2Config) -> None:
    """Raises ValueError unless a model of other settings can hold the weights of a run."""
    for name in ("n_layer", "n_head", "n_embd", "bias"):
        value, needed = getattr(model, name), getattr(base, name)
        flag = "--model." + name.replace("_", "-")
        require(
            value == needed,
            f"{flag} {value} does not fit the weights of {run}, which have {needed}; leave it out",
        )
    require(
        model.context_length <= base.context_length,
        f"--model.context-length {model.context_length} is longer than the "
        f"{base.context_length} positions that {run} was trained for; choose at most "
        f"{base.context_length}",
    )


def read_config_of(flag: str, path: str) -> RunConfig:
    """Returns the settings in the config.json, or of the run directory, that a flag names.

    Raises FileNotFoundError where there is none, ValueError where it is no such file.
    """
    file = user_path(path, flag)
    if file.suffix == ".py":  # as with nanoGPT
        raise ValueError(f"{flag} {path} is Python; name a config.json, or give the flags it sets")
    if kind_of(file) == "missing":
        raise FileNotFoundError(
            f"{flag} {path} does not exist; name a config.json, such as runs/tiny/config.json"
        )
    return read_config(file)
