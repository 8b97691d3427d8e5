"""A job: a stretch of the data that one process reads and encodes while others have the next ones.

A job says where its text stands, not what it is, so that what is sent around stays small. Which
jobs there are, and in which order, depends on the data alone: never on how many processes work.
Previous: sources.py.  Next: word_cache.py.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from cfg_gpt2 import require
from data.text_files import CHUNK_BYTES, Span, last_word_boundary, next_character, read_span

SIZE = 1 << 22  # bytes of a job, about
READ = 1 << 16  # bytes in which a job looks for the border before which it begins
_BORDER = re.compile(r"\S(?=[ \r\n])")


class Passage(NamedTuple):
    """A stretch of a document; `begins` is true for its first one."""

    split: str
    begins: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class TextJob:
    """A part of a text file, which is one document: from the first word after `start`."""

    kind: Literal["text"] = "text"
    split: str
    path: str
    start: int  # bytes; where a job does not begin the document, it begins at the next border
    stop: int
    first: int  # the document
    last: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def passages(self) -> Iterator[Passage]:
        """The text. Raises ValueError where it is no UTF-8."""
        file, begins = Path(self.path), self.start == self.first
        start = self.start if begins else next_border(file, self.start, self.last)
        stop = self.stop if self.stop == self.last else next_border(file, self.stop, self.last)
        for text in read_span(Span(file, start, stop)):
            yield Passage(self.split, begins, text)
            begins = False


@dataclass(frozen=True, kw_only=True)
class LinesJob:
    """The lines of a JSONL file that begin in a part of it, each a document."""

    kind: Literal["lines"] = "lines"
    path: str
    start: int  # bytes
    stop: int
    field: str
    validation_share: float

    @property
    def size(self) -> int:
        return self.stop - self.start

    def passages(self) -> Iterator[Passage]:
        """The documents. Raises ValueError for a line that has no text."""
        with Path(self.path).open("rb") as file:
            if self.start > 0:
                file.seek(self.start - 1)
                file.readline()  # the end of a line that the job before has
            place = file.tell()
            while place < self.stop and (line := file.readline()):
                if line.strip():
                    where = f"the line at byte {place} of {self.path}"
                    number = f"{Path(self.path).name} {place}"
                    text = text_of(line, self.field, where)
                    yield from passages_of(text, split_of(number, self.validation_share), where)
                place = file.tell()


@dataclass(frozen=True, kw_only=True)
class RowsJob:
    """Rows of a data set, each a document, with their text."""

    kind: Literal["rows"] = "rows"
    texts: list[str]
    first: int  # number of the first row
    validation_share: float

    @property
    def size(self) -> int:
        return sum(len(text.encode(errors="replace")) for text in self.texts)

    def passages(self) -> Iterator[Passage]:
        """The documents."""
        for number, text in enumerate(self.texts, start=self.first):
            split = split_of(str(number), self.validation_share)
            yield from passages_of(text, split, f"row {number}")


Job = TextJob | LinesJob | RowsJob


def next_border(file: Path, offset: int, last: int) -> int:
    """The first place from `offset` on at which a text can be cut without changing its tokens.

    That is after something visible and before a space or a line end, or the end of all. Where
    there is none in the next READ bytes, the text is cut at the next character.
    """
    offset = next_character(file, offset)
    with file.open("rb") as data:
        data.seek(offset)
        text = data.read(min(READ, last - offset)).decode("utf-8", errors="replace")
    found = _BORDER.search(text)
    if found:
        return offset + len(text[: found.end()].encode())
    return last if offset + READ >= last else offset


def text_of(line: bytes, field: str, where: str) -> str:
    """The text field of a line of JSON."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}; give one object a line") from None
    fields = ", ".join(row) if isinstance(row, dict) else "no fields"
    wanted = isinstance(row, dict) and isinstance(row.get(field), str)
    require(wanted, f"{where} has no text in {field!r} but {fields}; name one by --text-field")
    return row[field]


def passages_of(text: str, split: str, where: str) -> Iterator[Passage]:
    """A document in passages of about CHUNK_BYTES characters; none for an empty one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} has {text[error.start]!r}, a surrogate and no character; leave it out"
        ) from None
    start, stop = 0, CHUNK_BYTES
    while stop < len(text):
        cut = last_word_boundary(text[start:stop])
        if cut:
            yield Passage(split, start == 0, text[start : start + cut])
            start += cut
        stop = max(stop, start) + CHUNK_BYTES if not cut else start + CHUNK_BYTES
    if text:
        yield Passage(split, start == 0, text[start:])


def split_of(name: str, validation_share: float) -> str:
    """Draws a split for a document, by its name alone."""
    drawn = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(drawn) < validation_share * 2**64 else "train"
