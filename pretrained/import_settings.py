"""ImportCommand: the settings of `import`, made from its flags before torch is imported.

Previous: hub.py.  Next: import_command.py.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from commands.flags import parse_flags


@dataclass(frozen=True, kw_only=True)
class ImportCommand:
    """Open GPT-2's published weights, or any GPT-2 that transformers saved, as a run."""

    source: tyro.conf.Positional[str]
    """on the hub: gpt2, gpt2-medium, gpt2-large, gpt2-xl, distilgpt2, owner/name; or ./folder"""
    out: Path | None = None  # the new run's directory; None: runs/ and the source's name
    revision: str | None = None  # a branch, tag or commit on the hub; None: main


def read_import_command(arguments: list[str]) -> ImportCommand:
    """Returns the settings of `import`. Raises ValueError where flags are wrong."""
    return parse_flags(ImportCommand, "import", arguments)
