"""`python main.py import`: makes a run directory of published weights.

Previous: import_settings.py.  Next: hugging_face.py.
"""

from pathlib import Path

from rich.console import Console

from cfg_gpt2 import DataConfig, GPT2Config, RunConfig, require
from commands.suggest_prompt import prompt_for
from pretrained.config_json import read_config_json
from pretrained.folder_chat import import_chat
from pretrained.folder_tokens import read_folder_tokens
from pretrained.hub import HUB_PREFIX, find_folder
from pretrained.import_settings import ImportCommand
from pretrained.read_weights import read_weights
from run_directory.config_file import CONFIG_FILE, write_config
from run_directory.generation_config import write_generation_tokens
from run_directory.lock import only_writer
from run_directory.paths import user_path
from run_directory.printable import main_command
from run_directory.weights import WEIGHTS_FILE, write_tensors
from tokenizer import Tokenizer
from training.progress import Bar, new_console


def import_model(command: ImportCommand) -> int:
    """Imports a model into a run directory and prints how to use it; returns 0."""
    console = new_console()
    run_dir = command.out or default_run_dir(command.source)
    with only_writer(run_dir, "choose another --out", console.print):
        require(
            not (run_dir / CONFIG_FILE).exists(),
            f"--out {run_dir} already holds a run; name another directory",
        )
        folder = find_folder(command.source, command.revision, console.print)
        console.print(f"from      {folder}")
        tokenizer = import_folder(folder, run_dir, console)
    prompt = prompt_for(tokenizer)
    flags = ["--prompt", prompt] if prompt else []
    console.print(
        f"run       {run_dir}\n\nNext, let it write:\n  {main_command('generate', run_dir, *flags)}"
    )
    return 0


def default_run_dir(source: str) -> Path:
    """Returns runs/ and the last part of the source's name."""
    name = user_path(source.removeprefix(HUB_PREFIX), "SOURCE").resolve().name
    require(name != "", f"{source} has no name; add --out, such as --out runs/gpt2")
    return Path("runs", name)


def import_folder(folder: Path, run_dir: Path, console: Console) -> Tokenizer:
    """Makes a run directory of a folder that transformers saved, config.json last.

    Returns its tokenizer.
    Raises FileNotFoundError or ValueError where a file is missing, broken or not of a GPT-2.
    """
    config = read_config_json(folder)
    tokens = read_folder_tokens(folder, config)
    tokenizer = tokens.tokenizer
    require(
        tokenizer.vocab_size <= config.model.vocab_size,
        f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model "
        f"{config.model.vocab_size}; place files that belong together",
    )
    for line in [*config.notes, *tokens.notes]:
        console.print(line)
    with Bar(console, "weights", 100) as bar:
        weights = read_weights(
            folder,
            config.model,
            lambda done, total: bar.move(100 * done // total, f"{done / 1e6:,.0f} M numbers"),
            tied=config.tied,
        )
    extra = len(tokenizer.ids_without_token(config.model.vocab_size))
    if extra:
        console.print(f"tokens    the model has {extra:,} ids without a token; none is written")
    n_parameters = sum(tensor.numel() for tensor in weights.values())
    console.print(f"model     {n_parameters:,} parameters: {describe_sizes(config.model)}")
    write_tensors(run_dir / WEIGHTS_FILE, weights)
    tokenizer.save(run_dir)
    write_generation_tokens(run_dir, tokens.generation, tokenizer)
    for line in import_chat(folder, run_dir, tokenizer.end_token):
        console.print(line)
    data = DataConfig(tokenizer=str(run_dir))  # for training on another text with the same ids
    write_config(run_dir, RunConfig(model=config.model, data=data))
    return tokenizer


def describe_sizes(model: GPT2Config) -> str:
    """Returns the sizes of a model as one phrase."""
    return (
        f"{model.n_layer} blocks, {model.n_head} heads, {model.n_embd} wide, "
        f"context {model.context_length}, {model.vocab_size:,} tokens"
    )
