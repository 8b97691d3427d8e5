"""JSONL: a file with one JSON object a line, each of them a document with its text in a field.

    {"text": "Once upon a time ...", "source": "web"}

Previous: splits.py.  Next: stream.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cfg_gpt2 import require
from data.encodings import not_utf8
from data.splits import draw_split
from run_directory.json_file import MAX_BYTES, parse_json, shortened

TEXT_FIELD = "text"  # where `train` and `evaluate` find the text
NAMED_FIELDS = 5  # in a message
FIELD_CHARACTERS = 40  # of a field's name in it


class LineDocument(NamedTuple):
    """The document of one line."""

    where: str  # it stands, for messages
    split: str
    text: str


def read_lines(
    file: Path, field: str, share: float, start: int = 0, stop: int | None = None
) -> Iterator[LineDocument]:
    """Yields the documents of the lines that begin from byte `start` on and before `stop`.

    `share` of them, drawn by their position, is for validation. Raises ValueError for a line
    without a text in the field.
    """
    with file.open("rb") as lines:
        if start > 0:
            lines.seek(start - 1)
            while (part := lines.readline(MAX_BYTES)) and not part.endswith(b"\n"):
                pass  # the rest of a line that begins before
        place = lines.tell()
        while (stop is None or place < stop) and (line := lines.readline(MAX_BYTES + 1)):
            if line.strip():
                if len(line) <= MAX_BYTES:  # a longer one is cut, perhaps within a character
                    require_utf8(line, file, place)
                where = f"the line at byte {place} of {file}"
                text = document_of_line(line, field, where)
                yield LineDocument(where, draw_split(f"{file.name} {place}", share), text)
            place = lines.tell()


def require_utf8(line: bytes, file: Path, place: int) -> None:
    """Raises ValueError, with the offset in the file, for bytes that are not UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise not_utf8(file, place + error.start) from None


def document_of_line(line: bytes, field: str, where: str) -> str:
    """Returns the text field of a line of JSON; `where` names the line in errors.

    Raises ValueError where the line is not an object of JSON with a text in that field.
    """
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise ValueError(
            f'{where} is {json_name(row)}; give one object a line, such as {{"{field}": "..."}}'
        )
    require(
        field in row,
        f"{where} has no text in {field!r} but {field_names(row)}; name another field by "
        "prepare --text-field",
    )
    text = row[field]
    if not isinstance(text, str):
        raise ValueError(
            f"{where} has {json_name(text)} in {field!r} where a text is needed; leave the line "
            "out, or name another field by prepare --text-field"
        )
    return text


def json_name(value: object) -> str:
    """Returns what JSON calls a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    names = {str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")


def field_names(row: dict[str, object]) -> str:
    """Returns the first fields of an object, for a message."""
    names = [shortened(repr(name)[1:-1], FIELD_CHARACTERS) for name in list(row)[:NAMED_FIELDS]]
    more = len(row) - len(names)
    return (", ".join(names) + (f" and {more:,} others" if more else "")) or "no fields"


def require_characters(text: str, where: str) -> None:
    """Raises ValueError for a lone surrogate, which UTF-8 cannot encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} has {text[error.start]!r}, a surrogate and no character; leave it out"
        ) from None
