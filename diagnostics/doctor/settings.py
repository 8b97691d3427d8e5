"""DoctorCommand: the settings of `doctor`, made from its flags before torch is imported.

Next: english.py.
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cfg_gpt2 import DataConfig
from commands.flags import parse_flags
from commands.language import Language


@dataclass(frozen=True, kw_only=True)
class DoctorCommand:
    """Check this machine and, given a run, its curve: what is wrong, what to try."""

    run: tyro.conf.Positional[Path | None] = None
    """a run directory, such as runs/tiny; none: the machine only"""
    language: Language | None = None  # en or ru; None: as LC_ALL, LC_MESSAGES or LANG say
    json: bool = False  # everything as one line of JSON
    data: DataConfig = field(default_factory=DataConfig)


def read_doctor_command(arguments: list[str]) -> DoctorCommand:
    """Returns the settings of `doctor`. Raises ValueError where flags are wrong."""
    return parse_flags(DoctorCommand, "doctor", arguments)
