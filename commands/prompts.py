"""Prompts as they come from flags, files and the standard input: UTF-8, without a byte order mark.

Previous: generate_settings.py.  Next: generate.py.
"""

import re
import sys
from pathlib import Path

from cfg_gpt2 import require
from run_directory.printable import quoted

BYTE_ORDER_MARK = "\ufeff"  # Notepad writes it in front of a text
MAX_PROMPT_BYTES = 100_000_000  # more is no prompt, but a device such as /dev/zero
ESCAPES = {"\\n": "\n", "\\t": "\t"}  # that a shell leaves as they are within "..." and '...'


def read_prompts(texts: tuple[str, ...], files: tuple[Path, ...]) -> list[str]:
    """Returns the texts of --prompt and --prompt-file, or one empty text.

    Raises ValueError for a text that is not UTF-8, FileNotFoundError for a missing file.
    """
    prompts = [read_standard_input() if text == "-" else text for text in texts]
    return [*prompts, *map(read_prompt_file, files)] or [""]


def read_standard_input() -> str:
    """Returns all of the standard input: UTF-8, or else in the encoding of this system.

    Raises ValueError where it is in neither.
    """
    binary = getattr(sys.stdin, "buffer", None)
    if binary is None:
        return sys.stdin.read()
    return decode_input(binary.read(MAX_PROMPT_BYTES + 1), "--prompt -")


def read_line_of_input(name: str) -> str | None:
    """Returns the next line of the standard input, decoded as all of it would be.

    None: it has ended. Raises ValueError as read_standard_input does; `name` is the line's.
    """
    binary = getattr(sys.stdin, "buffer", None)
    if binary is None:
        line = sys.stdin.readline()
    else:
        line = decode_input(binary.readline(MAX_PROMPT_BYTES + 1), name)
    return line.removesuffix("\n") if line else None


def decode_input(data: bytes, name: str) -> str:
    """Returns the text of bytes from the standard input.

    Raises ValueError where it is neither UTF-8 nor in the encoding of this system.
    """
    try:
        return decode(data, name)
    except UnicodeDecodeError:
        text = data.decode(sys.stdin.encoding, "surrogateescape")
        return utf8_text(text, name)


def read_prompt_file(path: Path) -> str:
    """Returns the text of a file or a pipe.

    Raises FileNotFoundError where it is missing, ValueError where it is a folder or not UTF-8.
    """
    name = f"--prompt-file {path}"
    require(not path.is_dir(), f"{name} is a folder; name a text file")
    if not path.exists():
        raise FileNotFoundError(f"{name} does not exist; name a text file")
    with path.open("rb") as file:
        data = file.read(MAX_PROMPT_BYTES + 1)
    try:
        return decode(data, name)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 text: {error.reason} at byte {error.start}; save it as UTF-8"
        ) from None


def decode(data: bytes, name: str) -> str:
    """Returns the text of bytes in UTF-8, without a byte order mark, with newlines as line ends.

    Raises UnicodeDecodeError for bytes that are not UTF-8, ValueError for too many.
    """
    limit = MAX_PROMPT_BYTES
    require(len(data) <= limit, f"{name} has more than {limit:,} bytes; give it a shorter text")
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def utf8_text(text: str, name: str) -> str:
    """Returns a text that a user typed, read as UTF-8 even where the locale is C.

    There Python keeps each byte above 127 as half of a surrogate pair. Raises ValueError where
    these bytes are not UTF-8.
    """
    data = text.encode(errors="surrogateescape")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        position = len(data[: error.start].decode())
        raise ValueError(
            f"{name} is not UTF-8 text: \\x{data[error.start]:02x} at position {position}; "
            "give it as UTF-8"
        ) from None


def hint_about_escapes(flag: str, texts: tuple[str, ...]) -> str | None:
    r"""Returns a sentence where a text has \n or \t as two characters: a shell does not read it."""
    for text in texts:
        if found := re.search(r"\\[nt]", text):
            meant = re.sub(r"\\[nt]", lambda match: ESCAPES[match[0]], text)
            example = quoted(meant, windows=False)
            return (
                f"{flag} has {found[0]} as two characters, a backslash and a letter; "
                f"where a line end or a tab is meant, bash and zsh take {flag} {example}"
            )
    return None
