"""Paths among the settings of a command: the one place where every flag's path is made usable.

Previous: nanogpt.py.  Next: train_settings.py.
"""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TypeVar

from run_directory.paths import user_path

Settings = TypeVar("Settings")

KEPT_AS_TYPED = ("path", "tokenizer", "cache_dir", "source")  # text that is a path, or can be one


def with_user_paths(settings: Settings, arguments: list[str], prefix: str = "--") -> Settings:
    """Returns the settings of a command with every path as user_path returns it.

    Raises ValueError, with the flag, for what can be no path.
    """
    given = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    is_empty = "" in arguments or any(argument.endswith("=") for argument in arguments)
    changed = {}
    for field in fields(settings):  # pyright: ignore[reportArgumentType]  a dataclass, as all are
        value, flag = getattr(settings, field.name), prefix + field.name.replace("_", "-")
        if is_dataclass(value):
            changed[field.name] = with_user_paths(value, arguments, flag + ".")
            continue
        if prefix == "--" and flag not in given:
            flag = field.name.upper()  # such as RUN, which stands without a flag
        values = value if isinstance(value, tuple) else (value,)
        if field.name in KEPT_AS_TYPED and value is not None:
            for text in values:
                user_path(text, flag)
        if any(isinstance(one, Path) for one in values):
            typed = ["" if is_empty and one == Path() else one for one in values]  # pathlib's dot
            paths = [user_path(one, flag) for one in typed]
            changed[field.name] = tuple(paths) if isinstance(value, tuple) else paths[0]
    return replace(settings, **changed)  # pyright: ignore[reportArgumentType]
