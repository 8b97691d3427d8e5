"""The language in which a command speaks, where it has two: English or Russian.

Previous: flags.py.  Next: train_settings.py.
"""

from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "ru"]


def language_of(environment: Mapping[str, str]) -> Language:
    """Returns ru where the locale begins with ru, else en; the first variable set decides."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    return "ru" if locale.lower().startswith("ru") else "en"
