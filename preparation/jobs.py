"""A job: a part of the data that one process reads and encodes while others have the next parts.

A job says where its text is and not what it is, so that little is sent through the pipes. The
jobs and their order depend on the data alone, never on the number of processes.
Previous: sources.py.  Next: word_cache.py.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from data.text_files import CHUNK_BYTES, Span, last_word_boundary, next_character, read_span
from run_directory.json_file import MAX_BYTES, parse_json, shortened

JOB_BYTES = 1 << 22  # of a job, about
SEARCH_BYTES = 1 << 16  # in which a job looks for the word boundary at which it begins
_WORD_BOUNDARY = re.compile(r"\S(?=[ \r\n])")


class Passage(NamedTuple):
    """A part of a document's text, in the split of that document."""

    split: str
    begins_document: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class TextJob:
    """A part of a text file, which is one document: from the first word boundary after `start`."""

    kind: Literal["text"] = "text"
    split: str
    path: str
    start: int  # bytes; a job inside a document begins at the next word boundary
    stop: int
    document_start: int  # bytes; the part of the file that belongs to the split
    document_stop: int

    @property
    def size(self) -> int:
        """The bytes of the source in this job."""
        return self.stop - self.start

    def passages(self, search_bytes: int = SEARCH_BYTES) -> Iterator[Passage]:
        """Yields the text. Raises ValueError where it is not UTF-8."""
        file, begins = Path(self.path), self.start == self.document_start
        start = self.start if begins else self.boundary(self.start, search_bytes)
        ends = self.stop == self.document_stop
        stop = self.stop if ends else self.boundary(self.stop, search_bytes)
        for text in read_span(Span(file, start, stop)):
            yield Passage(self.split, begins, text)
            begins = False

    def boundary(self, offset: int, search_bytes: int) -> int:
        """Returns the word boundary at which the job of this offset begins."""
        return next_word_boundary(Path(self.path), offset, self.document_stop, search_bytes)


@dataclass(frozen=True, kw_only=True)
class LinesJob:
    """The lines of a JSONL file that begin in a part of it; each is a document."""

    kind: Literal["lines"] = "lines"
    path: str
    start: int  # bytes
    stop: int
    field: str
    validation_share: float

    @property
    def size(self) -> int:
        """The bytes of the source in this job."""
        return self.stop - self.start

    def passages(self) -> Iterator[Passage]:
        """Yields the documents. Raises ValueError for a line without a text in the field."""
        with Path(self.path).open("rb") as file:
            if self.start > 0:
                file.seek(self.start - 1)
                while (part := file.readline(MAX_BYTES)) and not part.endswith(b"\n"):
                    pass  # the rest of a line that the job before has
            place = file.tell()
            while place < self.stop and (line := file.readline(MAX_BYTES + 1)):
                if line.strip():
                    where = f"the line at byte {place} of {self.path}"
                    name = f"{Path(self.path).name} {place}"
                    text = document_of_line(line, self.field, where)
                    yield from split_document(text, draw_split(name, self.validation_share), where)
                place = file.tell()


@dataclass(frozen=True, kw_only=True)
class RowsJob:
    """Rows of a data set, with their text; each is a document."""

    kind: Literal["rows"] = "rows"
    texts: list[str]
    first: int  # number of the first row
    validation_share: float

    @property
    def size(self) -> int:
        """The bytes of text in this job."""
        return sum(len(text.encode(errors="replace")) for text in self.texts)

    def passages(self) -> Iterator[Passage]:
        """Yields the documents."""
        for number, text in enumerate(self.texts, start=self.first):
            split = draw_split(str(number), self.validation_share)
            yield from split_document(text, split, f"row {number}")


Job = TextJob | LinesJob | RowsJob


def next_word_boundary(
    file: Path, offset: int, document_stop: int, search_bytes: int = SEARCH_BYTES
) -> int:
    """Returns the next offset at which a text can be cut without a change of its tokens.

    That is behind a visible character and before a space or a line end, or the end of the
    document. Where there is none within search_bytes, it is the beginning of the next character.
    """
    offset = next_character(file, offset)
    with file.open("rb") as data:
        data.seek(offset)
        text = data.read(min(search_bytes, document_stop - offset)).decode(errors="replace")
    if found := _WORD_BOUNDARY.search(text):
        return offset + len(text[: found.end()].encode())
    return document_stop if offset + search_bytes >= document_stop else offset


def document_of_line(line: bytes, field: str, where: str) -> str:
    """Returns the text field of a line of JSON; `where` names the line in errors.

    Raises ValueError where the line is not an object of JSON with a text in that field.
    """
    row = parse_json(line, where)
    fields = ", ".join(row) if isinstance(row, dict) else "no fields"
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        raise ValueError(
            f"{where} has no text in {field!r} but {shortened(fields)}; name one by --text-field"
        )
    return row[field]


def split_document(text: str, split: str, where: str, size: int = CHUNK_BYTES) -> Iterator[Passage]:
    """Yields a document in passages of about `size` characters; none for an empty document.

    Raises ValueError for a lone surrogate, which UTF-8 cannot encode; `where` names the document.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} has {text[error.start]!r}, a surrogate and no character; leave it out"
        ) from None
    start, stop = 0, size
    while stop < len(text):
        cut = last_word_boundary(text[start:stop])
        if cut:
            yield Passage(split, start == 0, text[start : start + cut])
            start += cut
        stop = max(stop, start) + size if not cut else start + size
    if text:
        yield Passage(split, start == 0, text[start:])


def draw_split(name: str, validation_share: float) -> str:
    """Returns the split of a document, drawn at random by a hash of its name alone."""
    drawn = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(drawn) < validation_share * 2**64 else "train"
