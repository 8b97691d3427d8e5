"""`python main.py import`: makes a run directory of published weights.

Previous: import_settings.py.  Next: hugging_face.py.
"""

from pathlib import Path

from rich.console import Console

from cfg_gpt2 import DataConfig, GPT2Config, RunConfig, require
from pretrained.config_json import read_config_json
from pretrained.hub import HUB_PREFIX, find_folder
from pretrained.import_settings import ImportCommand
from pretrained.read_weights import read_weights
from run_directory.config_file import CONFIG_FILE, write_config
from run_directory.weights import WEIGHTS_FILE, write_tensors
from tokenizer import Tokenizer
from training.progress import Bar, new_console


def import_model(command: ImportCommand) -> int:
    """Imports a model into a run directory and prints how to use it; returns 0."""
    console = new_console()
    run_dir = command.out or default_run_dir(command.source)
    require(
        not (run_dir / CONFIG_FILE).exists(),
        f"--out {run_dir} already holds a run; name another directory",
    )
    folder = find_folder(command.source, command.revision)
    console.print(f"from      {folder}")
    import_folder(folder, run_dir, console)
    console.print(
        f"run       {run_dir}\n\nNext, let it write:\n"
        f'  python main.py generate {run_dir} --prompt "Once upon a time"'
    )
    return 0


def default_run_dir(source: str) -> Path:
    """Returns runs/ and the last part of the source's name."""
    name = Path(source.removeprefix(HUB_PREFIX)).expanduser().resolve().name
    require(name != "", f"{source} has no name; add --out, such as --out runs/gpt2")
    return Path("runs", name)


def import_folder(folder: Path, run_dir: Path, console: Console) -> None:
    """Makes a run directory of a folder that transformers saved, config.json last.

    Raises FileNotFoundError or ValueError where a file is missing, broken or not of a GPT-2.
    """
    config = read_config_json(folder)
    tokenizer = Tokenizer.from_gpt2(folder)
    for line in [*config.notes, *vocabulary_notes(tokenizer, config.model, folder)]:
        console.print(line)
    with Bar(console, "weights", 100) as bar:
        weights = read_weights(
            folder,
            config.model,
            lambda done, total: bar.move(100 * done // total, f"{done / 1e6:,.0f} M numbers"),
        )
    n_parameters = sum(tensor.numel() for tensor in weights.values())
    console.print(f"model     {n_parameters:,} parameters: {describe_sizes(config.model)}")
    write_tensors(run_dir / WEIGHTS_FILE, weights)
    tokenizer.save(run_dir)
    data = DataConfig(tokenizer=str(run_dir))  # for training on another text with the same ids
    write_config(run_dir, RunConfig(model=config.model, data=data))


def vocabulary_notes(tokenizer: Tokenizer, model: GPT2Config, folder: Path) -> list[str]:
    """Returns a line where the model's vocabulary is larger than the tokenizer's.

    Raises ValueError where it is smaller.
    """
    extra = model.vocab_size - tokenizer.vocab_size
    require(
        extra >= 0,
        f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model {model.vocab_size}; "
        "place files that belong together",
    )
    return [f"tokens    the model has {extra} ids that the tokenizer has not"] if extra else []


def describe_sizes(model: GPT2Config) -> str:
    """Returns the sizes of a model as one phrase."""
    return (
        f"{model.n_layer} blocks, {model.n_head} heads, {model.n_embd} wide, "
        f"context {model.context_length}, {model.vocab_size:,} tokens"
    )
