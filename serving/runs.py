"""The runs that are served, each with the engine that writes its texts.

Previous: engine.py.  Next: errors.py.
"""

from dataclasses import dataclass
from pathlib import Path

from cfg_gpt2 import require
from commands.generate import open_for_generation
from finetuning.chat_json import ChatSettings, read_chat_settings
from gpt2 import GPT2Model
from run_directory.chat_template import CHAT_FILE
from run_directory.generation_config import GenerationTokens
from serving.engine import Engine
from serving.plain_model import keep_to_fused_attention
from serving.settings import ServeCommand
from tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class ServedRun:
    """A run as requests name it, with what answers them."""

    name: str
    folder: Path
    model: GPT2Model
    tokenizer: Tokenizer
    tokens: GenerationTokens
    chat: ChatSettings | None  # None: it was not finetuned for chat
    engine: Engine


def open_runs(command: ServeCommand) -> dict[str, ServedRun]:
    """Opens the runs that a command names. Their engines are not started.

    Raises FileNotFoundError or ValueError where one cannot be opened, or two have one name.
    """
    runs: dict[str, ServedRun] = {}
    for folder in command.run:
        name = folder.resolve().name
        require(name not in runs, f"two runs are named {name}; rename one of the folders")
        runs[name] = open_one(command, folder, name)
    return runs


def open_one(command: ServeCommand, folder: Path, name: str) -> ServedRun:
    """Opens a run. Raises FileNotFoundError or ValueError where that fails."""
    chat = read_chat_settings(folder) if (folder / CHAT_FILE).exists() else None
    model, tokenizer, tokens = open_for_generation(
        folder, best=command.best, precision=command.precision, native=command.native
    )
    keep_to_fused_attention(model)
    return ServedRun(
        name=name,
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        tokens=tokens,
        chat=chat,
        engine=Engine(model, tokenizer, command.slots, command.max_waiting),
    )
