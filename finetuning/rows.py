"""The rows of a user's files: objects of JSON, each with the place where it stands, for messages.

    [{...}, {...}]       a list in one JSON file
    {...}                JSONL: an object a line
    T: ... Q: ... A: ... blocks of lines: text, question and answer, an empty line between blocks

Nothing is skipped but empty lines: the first row that cannot be read ends the reading.
Previous: row_formats.py.  Next: dialogues.py.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cfg_gpt2 import require
from data.encodings import not_utf8
from data.file_types import HEAD_BYTES, TYPE_OF_SUFFIX, require_plain_text
from data.json_lines import json_name, require_utf8
from data.text_files import Wanted
from run_directory.json_file import MAX_BYTES, parse_json, shortened

DATA = Wanted(
    "--data",
    "JSON and JSONL files",
    (".json", ".jsonl", ".ndjson"),
    ("tiny-questions", "tiny-questions-ru"),
)
MAX_LIST_BYTES = 2_000_000_000  # of a JSON list, which is read whole; lines are read one by one
EXAMPLE = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}'
BLOCK_KEYS = ("T", "Q", "A")
_BLOCKS = re.compile(rb"[TQA]\s*:")
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},]', re.DOTALL)


class Row(NamedTuple):
    """The fields of one row."""

    where: str  # it stands, for messages
    fields: dict[str, object]


def rows_of(file: Path) -> Iterator[Row]:
    """Yields the rows of a file, whose form is told from its beginning.

    Raises ValueError, with the line, for the first row that cannot be read.
    """
    with file.open("rb") as content:
        head = content.read(HEAD_BYTES)
    require(
        not head.startswith(b"PAR1"),
        f"{file} is Parquet; write its rows as JSONL, an object a line, such as {EXAMPLE}",
    )
    require_plain_text(file, head)
    require_text(file, head)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith(b"["):
        yield from rows_of_list(file)
    elif start.startswith(b"{") or TYPE_OF_SUFFIX.get(file.suffix.lower()) == "JSONL":
        yield from rows_of_lines(file)
    elif _BLOCKS.match(start):
        yield from rows_of_blocks(file)
    else:
        line = head[: len(head) - len(start)].count(b"\n") + 1
        found = shortened(start.partition(b"\n")[0].decode(errors="ignore").strip(), 40)
        raise ValueError(
            f"line {line} of {file} begins with {found!r} where JSON is expected; give a list of "
            f"objects or one a line, such as {EXAMPLE}, or blocks of T:, Q: and A: lines"
            if start
            else f"{file} has no rows; give an object a line, such as {EXAMPLE}"
        )


def require_text(file: Path, head: bytes) -> None:
    """Raises ValueError, with the line, where a file's first bytes are not UTF-8, as in UTF-16."""
    offset = head.find(b"\0")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        offset = error.start
    if offset >= 0:
        line = head[:offset].count(b"\n") + 1
        raise ValueError(f"line {line} of {not_utf8(file, offset)}")


# JSONL ----------------------------------------------------------------------------------------


def rows_of_lines(file: Path) -> Iterator[Row]:
    """Yields the objects of a file that has one a line."""
    place = 0
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_BYTES + 1):
            number += 1
            where = f"line {number:,} of {file}"
            if line.removeprefix(codecs.BOM_UTF8).strip():
                require_utf8_at(line, file, place, where)
                try:
                    yield Row(where, parse_row(line.rstrip(), where))
                except ValueError:
                    require_no_object_over_lines(file, line)
                    raise
            place += len(line)


def require_utf8_at(data: bytes, file: Path, place: int, where: str) -> None:
    """Raises ValueError, with the place of the row, for bytes that are not UTF-8.

    place is the row's offset in the file. A row that is too long may be cut within a character,
    and is refused by its length.
    """
    if len(data) > MAX_BYTES:
        return
    try:
        require_utf8(data, file, place)
    except ValueError as error:
        raise ValueError(f"{where.removesuffix(str(file))}{error}") from None


def require_no_object_over_lines(file: Path, line: bytes) -> None:
    """Raises ValueError where an object that begins in a line goes on in the next ones."""
    if not line.rstrip().endswith((b"{", b"[", b",")):
        return
    with file.open("rb") as content:
        data = content.read(MAX_BYTES + 1)
    try:
        value = parse_json(data, str(file))
    except ValueError:
        return
    keys = ", ".join(list(value)[:3]) if isinstance(value, dict) else ""
    raise ValueError(
        f"line 1 of {file} begins one JSON object over many lines, with {shortened(keys)}; give a "
        f"list of such objects, or write each of them in one line, such as {EXAMPLE}"
    )


# A list of JSON -------------------------------------------------------------------------------


def rows_of_list(file: Path) -> Iterator[Row]:
    """Yields the objects of a file that is one list of JSON."""
    with file.open("rb") as content:
        data = content.read(MAX_LIST_BYTES + 1)
    require(
        len(data) <= MAX_LIST_BYTES,
        f"{file} is a JSON list of more than {MAX_LIST_BYTES // 10**9} GB, which is read whole; "
        "write an object a line into a .jsonl file, which is read line by line",
    )
    line = counted = 0
    for number, (start, stop) in enumerate(items_of(data, file), start=1):
        start += len(data[start:stop]) - len(data[start:stop].lstrip())
        line += data.count(b"\n", counted, start)
        counted = start
        where = f"item {number:,} (line {line + 1:,}) of {file}"
        item = data[start:stop]
        require_utf8_at(item, file, start, where)
        try:
            fields = parse_row(item, where)
        except ValueError:
            if len(data) <= MAX_BYTES:
                parse_json(data, str(file))  # an error in JSON has its exact line from here
            raise
        yield Row(where, fields)


def items_of(data: bytes, file: Path) -> Iterator[tuple[int, int]]:
    """Yields where the items of a list begin and end, by its brackets and commas alone.

    Raises ValueError where the list does not end, or something follows its end.
    """
    depth = start = end = 0
    for found in _STRING_OR_BRACKET.finditer(data):
        character, place = data[found.start()], found.start()
        if character in b"[{":
            depth += 1
            start = place + 1 if depth == 1 else start
        elif character in b"]}":
            depth -= 1
            if depth == 0:
                if end or data[start:place].strip():
                    yield start, place
                end = place + 1
                break
        elif character == ord(",") and depth == 1:
            yield start, place
            start = end = place + 1
    if not depth and not data[end:].strip():
        return
    if len(data) <= MAX_BYTES:
        parse_json(data, str(file))  # raises the error, with its line
    line = data.count(b"\n", 0, end if not depth else len(data)) + 1
    what = "the list does not end" if depth else "something follows the end of the list"
    raise ValueError(f"line {line:,} of {file}: {what}; write one list of objects")


def parse_row(data: bytes, where: str) -> dict[str, object]:
    """Returns the object of a row. Raises ValueError where there is none."""
    try:
        row = parse_json(data, where)
    except ValueError as error:
        raise ValueError(str(error).replace(" at line 1 column ", " at column ")) from None
    if not isinstance(row, dict):
        raise ValueError(
            f"{where} is {json_name(row)} where an object is needed, such as {EXAMPLE}"
        )
    twice = repeated_key(data)
    require(
        twice is None,
        f"{where} has {shortened(repr(twice))} twice in one object, of which only one could count; "
        "leave one of them out",
    )
    return row


def repeated_key(data: bytes) -> str | None:
    """Returns a key that stands twice in one object of a JSON text; None: none does."""
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.append(next(key for key in keys if keys.count(key) > 1))

    json.loads(data, object_pairs_hook=collect, parse_int=len)
    return repeated[0] if repeated else None


# Blocks of T:, Q: and A: ----------------------------------------------------------------------


def rows_of_blocks(file: Path) -> Iterator[Row]:
    """Yields the blocks of lines T:, Q: and A:; several T: lines make one text."""
    fields: dict[str, str] = {}
    first = place = 0
    with file.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_BYTES):
            number += 1
            where = f"line {number:,} of {file}"
            require_utf8_at(line, file, place, where)
            place += len(line)
            text = line.decode().removeprefix("\ufeff").strip()
            if text:
                first = first if fields else number
                add_line(fields, text, where)
            elif fields:
                yield block_row(fields, f"line {first:,} of {file}")
                fields = {}
    if fields:
        yield block_row(fields, f"line {first:,} of {file}")


def add_line(fields: dict[str, str], line: str, where: str) -> None:
    """Adds a line to its block. Raises ValueError where it does not belong there."""
    key, colon, text = line.partition(":")
    key = key.strip()
    require(
        colon != "" and key in BLOCK_KEYS,
        f"{where} begins with {shortened(line, 40)!r} where T:, Q: or A: is needed",
    )
    later = [other for other in BLOCK_KEYS[BLOCK_KEYS.index(key) :] if other in fields]
    require(
        not later or (later == ["T"] == [key]),
        f"{where} is {key}: after {''.join(later[-1:])}: in the same block; leave a line empty "
        "between blocks of T:, Q: and A:",
    )
    fields[key] = "\n".join(filter(None, [fields.get(key, ""), text.strip()]))


def block_row(fields: dict[str, str], where: str) -> Row:
    """Returns a block as a row. Raises ValueError where one of its lines is missing."""
    missing = [key for key in BLOCK_KEYS if key not in fields]
    require(
        not missing,
        f"{where} begins a block without {' and '.join(f'{key}:' for key in missing)}; give each "
        "block a text T:, a question Q: and an answer A:",
    )
    return Row(where, dict(fields))
