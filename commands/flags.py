"""Flags become settings: tyro reads them, and a wrong one ends as a single sentence.

Previous: ../trainer.py.  Next: nanogpt.py.
"""

import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from itertools import dropwhile, pairwise, takewhile
from typing import TextIO, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from commands.nanogpt import hint_for
from commands.streams import MIN_COLUMNS, PrintableOutput, say
from commands.typed_paths import with_user_paths

ONE_LINE = 100_000  # columns, in which no message is wrapped
UNKNOWN = "Unrecognized options: "
WRONG_VALUES = {  # what tyro and Python say of a value, in the words of this program
    r"(\S+): invalid literal for int\(\) with base 10: '(.*)'": r"\1 \2 is not a whole number",
    r"(\S+): could not convert string to float: '(.*)'": r"\1 \2 is not a number",
    r"(\S+): no type matching \{None\}\|INT .* from \['(.*)'\]": r"\1 \2 is not a whole number",
    r"(\S+): no type matching \{None\}\|FLOAT .* from \['(.*)'\]": r"\1 \2 is not a number",
    r"(\S+): no type matching (\S+) .* from \['(.*)'\]": r"\1 \3 is none of \2",
    r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*?),?\)": (
        r"\2 \1 is unknown; choose one of \3"
    ),
    r"Missing value for argument '(.*)'\. Expected \d+ values?": r"\1 needs a value",
}
LOOSE = {  # what is meant, perhaps, by a word that belongs to no flag
    "train": "name a text by --data.path and a config.json by --config",
    "prepare": "name a text by --data.path",
    "generate": "give a prompt by --prompt",
    "chat": "give a message by --message",
    "evaluate": "name more runs by --compare",
    "plan": "name a config.json by --config",
}

Settings = TypeVar("Settings")


def parse_flags(
    command: type[Settings], name: str, arguments: list[str], default: Settings | None = None
) -> Settings:
    """Returns the settings of a command, made from its flags.

    Paths are as user_path returns them. Raises ValueError, with one plain sentence, for a flag that
    is unknown or has a wrong value.
    """
    asks_for_help = not {"-h", "--help"}.isdisjoint(arguments)
    columns = max(MIN_COLUMNS, shutil.get_terminal_size().columns) if asks_for_help else ONE_LINE
    # no terminal: no colours in an error
    output = PrintableOutput(sys.stdout) if asks_for_help else io.StringIO()
    errors = io.StringIO()
    parse = partial(
        tyro.cli,
        command,
        prog=f"main.py {name}",
        default=tyro.MISSING_NONPROP if default is None else default,
        registry=one_paragraph_each(),
    )
    try:
        with display(output, errors, columns):
            settings = parse(args=arguments)
        return with_user_paths(settings, arguments)
    except SystemExit as stopped:
        if stopped.code in (0, None):
            raise
    message = message_of(errors.getvalue())
    if re.match(rf"{UNKNOWN}|Missing from|\w+ needs a value", message):
        with suppress(SystemExit), display(text := io.StringIO(), errors, ONE_LINE):
            parse(args=["--help"])
        flags = re.findall(r"--[a-z][\w.-]*\w", text.getvalue())
        unknown = [a for a in arguments if a.startswith("--") and name_of(a) not in flags]
        if unknown and not message.startswith(UNKNOWN):  # tyro missed what they stand before
            message = UNKNOWN + ", ".join(unknown)
        message += "".join(hints(message, name, arguments, flags))
    elif missing := re.match(r"(--\S+) needs a value", message):
        message += value_with_a_dash(missing[1], arguments)
    raise ValueError(f"{message}; see python main.py {name} --help") from None


@contextmanager
def display(output: TextIO, errors: TextIO, columns: int) -> Iterator[None]:
    """Sends what tyro prints to two files, wrapped to a width.

    tyro asks shutil for the width, which looks at COLUMNS first.
    """
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        with redirect_stdout(output), redirect_stderr(errors):
            yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def one_paragraph_each() -> ConstructorRegistry:
    """Returns rules by which tyro takes each docstring of a setting as one paragraph.

    By itself it keeps the line ends of the source and wraps the lines once more.
    """
    registry = ConstructorRegistry()
    asked: list[StructTypeInfo] = []

    @registry.struct_rule
    def join_lines(info: StructTypeInfo) -> StructConstructorSpec | None:
        if asked and asked[-1] is info:  # by the call below, which wants tyro's own rule
            return None
        asked.append(info)
        spec = ConstructorRegistry.get_struct_spec(info)
        asked.pop()
        if not isinstance(spec, StructConstructorSpec):
            return None
        fields = (replace(f, helptext=partial(one_paragraph, f.helptext)) for f in spec.fields)
        return replace(spec, fields=tuple(fields))

    return registry


def one_paragraph(text: str | Callable[[], str | None] | None) -> str | None:
    """Returns a help text in one line, which is read from the source when it is asked for."""
    text = text() if callable(text) else text
    return text and " ".join(text.split())


def message_of(box: str) -> str:
    """Returns the first paragraph of tyro's framed message, with its words for a wrong value."""
    lines = [line.strip(" │╭╮╰╯") for line in box.splitlines()[1:]]  # the first is a title
    text = dropwhile(is_rule, lines)
    message = " ".join(takewhile(lambda line: not is_rule(line), text)).removesuffix(".")
    message = re.sub(r"^Error parsing (model|data|train|sampling|[A-Z]\w+)?[:\s]*", "", message)
    for pattern, sentence in WRONG_VALUES.items():
        message = re.sub(pattern, sentence, message)
    return message


def hints(message: str, command: str, arguments: list[str], flags: list[str]) -> Iterator[str]:
    """Yields what may have been meant by each argument that tyro did not recognise.

    Args:
        message: names these arguments, with commas between them.
        command: the name of the command.
        arguments: all that were given.
        flags: all that the command has.
    """
    unknown = message.removeprefix(UNKNOWN).split(", ")
    for before, argument in pairwise(["", *arguments]):
        if argument not in unknown:
            continue
        if not argument.startswith("-"):
            if before in flags:
                yield f"; {before} takes no value, {opposite(before)} turns it off"
            elif not before.startswith("-") and command in LOOSE:
                yield f"; {LOOSE[command]}"
        elif hint := hint_for(command, argument):
            yield f"; {hint}"
        elif meant := similar(name_of(argument), flags):
            yield f"; perhaps you meant {meant}"
        elif before in flags:
            yield f"; if it is the value of {before}, write {before}={shlex.quote(argument)}"


def similar(flag: str, flags: list[str]) -> str | None:
    """Returns a flag with the same last word, as --model.n-layer for --n-layer, or a close one."""
    last = flag.removeprefix("--").rpartition(".")[2]
    same = [known for known in flags if known.removeprefix("--").rpartition(".")[2] == last]
    return next(iter(same or get_close_matches(flag, flags, n=1, cutoff=0.8)), None)


def opposite(flag: str) -> str:
    """Returns the flag that turns a flag without a value off: --train.no-x for --train.x."""
    prefix, dot, last = flag.removeprefix("--").rpartition(".")
    return f"--{prefix}{dot}no-{last}"


def value_with_a_dash(flag: str, arguments: list[str]) -> str:
    """Returns how a value that begins with - is given, where one may have been meant."""
    following = dict(pairwise(arguments)).get(flag, "")
    if not following.startswith("-"):
        return ""
    return f"; if {following} is meant, write {flag}={shlex.quote(following)}"


def is_rule(line: str) -> bool:
    """Tells whether a line is empty, or a rule drawn between two paragraphs."""
    return line.strip("─-") == ""


def name_of(argument: str) -> str:
    """Returns the flag of an argument, --init-from of --init_from=runs/gpt2, as tyro reads it."""
    return argument.partition("=")[0].replace("_", "-")


def value_of(flag: str, arguments: list[str]) -> str | None:
    """Returns the last value of a flag that decides about the defaults of others, before tyro."""
    value = None
    for argument, following in pairwise([*arguments, ""]):
        if name_of(argument) == flag:
            value = argument.partition("=")[2] if "=" in argument else following
    return value or None


def rename_flag(arguments: list[str], old: str, new: str) -> list[str]:
    """Accepts the earlier name of a flag, and says on standard error what it is called today."""
    if not any(name_of(argument) == old for argument in arguments):
        return arguments
    say(f"{old} is called {new}; {old} is still accepted")
    return [re.sub(rf"^{old}(?==|$)", new, argument) for argument in arguments]
