"""QuantizeCommand: the settings of `quantize`, made from its flags before torch is imported.

Previous: int8.py.  Next: command.py.
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cfg_gpt2 import require_count
from commands.flags import parse_flags


@dataclass(frozen=True, kw_only=True)
class TextFlags:
    """The text that both models read."""

    path: tuple[str, ...] | None = None
    """text files, folders, globs or a built-in world; None: what the run learned from."""


@dataclass(frozen=True, kw_only=True)
class QuantizeCommand:
    """Measure what int8 weights save and cost, on the validation split of a text."""

    run: tyro.conf.Positional[Path]  # a run directory, such as runs/tiny
    data: TextFlags = field(default_factory=TextFlags)
    tokens: int = 20_000  # of the text that are read, at most

    def __post_init__(self) -> None:
        require_count("--tokens", self.tokens, advice="; try 20000")


def read_quantize_command(arguments: list[str]) -> QuantizeCommand:
    """Returns the settings of `quantize`. Raises ValueError where flags are wrong."""
    return parse_flags(QuantizeCommand, "quantize", arguments)
