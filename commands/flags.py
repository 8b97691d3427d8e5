"""Flags become settings: tyro reads them, and a wrong one ends as a single sentence.

Previous: ../trainer.py.  Next: train.py.
"""

import io
import re
import sys
from contextlib import redirect_stderr
from itertools import dropwhile, takewhile
from typing import TypeVar

import tyro

Settings = TypeVar("Settings")


def parse_flags(
    command: type[Settings], name: str, arguments: list[str], default: Settings | None = None
) -> Settings:
    """Returns the settings of a command, made from its flags.

    Raises ValueError, with one plain sentence, for a flag that is unknown or has a wrong value.
    """
    output = io.StringIO()
    try:
        with redirect_stderr(output):
            prog = f"main.py {name}"
            if default is None:
                return tyro.cli(command, prog=prog, args=arguments)
            return tyro.cli(command, prog=prog, args=arguments, default=default)
    except SystemExit as stopped:
        if stopped.code in (0, None):
            raise
    raise ValueError(one_sentence(output.getvalue(), f"python main.py {name} --help")) from None


def one_sentence(box: str, help_command: str) -> str:
    """Returns the first paragraph of tyro's framed message and the flag it suggests in one line."""
    lines = [line.strip(" │╭╮╰╯") for line in box.splitlines()[1:]]  # the first is a title
    text = dropwhile(is_rule, lines)
    message = " ".join(takewhile(lambda line: not is_rule(line), text)).removesuffix(".")
    message = re.sub(r"^Error parsing (model|data|train|sampling|[A-Z]\w+)?[:\s]*", "", message)
    if "Perhaps you meant:" in lines:
        flag = lines[lines.index("Perhaps you meant:") + 1].split()[0].rstrip(",")
        message += f"; perhaps you meant {flag}"
    return f"{message}; see {help_command}"


def is_rule(line: str) -> bool:
    """Tells whether a line is empty, or a rule drawn between two paragraphs."""
    return line.strip("─-") == ""


def first_value(arguments: list[str], flag: str) -> str | None:
    """Returns the value of a flag that decides about the defaults of others, read before tyro."""
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1]
        if argument.startswith(flag + "="):
            return argument.removeprefix(flag + "=")
    return None


def rename_flag(arguments: list[str], old: str, new: str) -> list[str]:
    """Accepts the earlier name of a flag, and says on standard error what it is called today."""
    if not any(argument.split("=")[0] == old for argument in arguments):
        return arguments
    print(f"{old} is called {new}; {old} is still accepted", file=sys.stderr)
    return [re.sub(rf"^{old}(?==|$)", new, argument) for argument in arguments]
