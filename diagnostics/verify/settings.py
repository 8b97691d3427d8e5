"""VerifyCommand: the settings of `verify`, made from its flags before torch is imported.

Previous: ../../main.py.  Next: command.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from commands.flags import parse_flags
from decoding.settings import Repeated


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Prove that every fast path computes what the plain one computes, on this machine."""

    run: tyro.conf.Positional[Path | None] = None
    """a run directory, such as runs/tiny; none: a small random model"""
    only: Repeated[tuple[str, ...]] = ()  # the name of a check; may be given again
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a GPU where there is one."""
    json: bool = False  # a line of JSON for each check


def read_verify_command(arguments: list[str]) -> VerifyCommand:
    """Returns the settings of `verify`. Raises ValueError where flags are wrong."""
    return parse_flags(VerifyCommand, "verify", arguments)
