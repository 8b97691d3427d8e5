"""ExportCommand: the settings of `export`, made from its flags before torch is imported.

Previous: model_card.py.  Next: export_command.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from commands.flags import parse_flags


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write a run for other programs: transformers, llama.cpp, CTranslate2."""

    run: tyro.conf.Positional[Path]  # a run directory, such as runs/tiny
    best: bool = False  # the weights with the lowest validation loss, not the newest
    out: Path  # the new folder; with --format gguf also a file that ends in .gguf
    format: Literal["hf", "gguf"] = "hf"
    """hf: a folder that transformers loads; gguf: a file that llama.cpp loads."""
    precision: Literal["fp32", "fp16", "bf16", "q8_0"] = "fp32"
    """of the weights; fp32 loses nothing, q8_0 is for gguf only."""


def read_export_command(arguments: list[str]) -> ExportCommand:
    """Returns the settings of `export`. Raises ValueError where flags are wrong."""
    return parse_flags(ExportCommand, "export", arguments)
