"""A job: a part of the data that one process reads and encodes while others have the next parts.

A job says where its text is and not what it is, so that little is sent through the pipes. The
jobs and their order depend on the data alone, never on the number of processes.
Previous: sources.py.  Next: word_cache.py.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from data.json_lines import read_lines, require_characters
from data.splits import draw_split
from data.text_files import CHUNK_BYTES, Span, cut_at_words, next_character, read_span

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
        share = self.validation_share
        for line in read_lines(Path(self.path), self.field, share, self.start, self.stop):
            yield from split_document(line.text, line.split)


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
            require_characters(text, f"row {number}")
            yield from split_document(text, draw_split(str(number), self.validation_share))


Job = TextJob | LinesJob | RowsJob
JOBS: dict[str, type[TextJob] | type[LinesJob] | type[RowsJob]] = {
    "text": TextJob,
    "lines": LinesJob,
    "rows": RowsJob,
}


def job_to_json(job: Job) -> bytes:
    """Returns a job as one line of JSON in ASCII, whatever bytes the name of its file has."""
    return json.dumps(asdict(job)).encode() + b"\n"


def job_of_json(line: bytes) -> Job:
    """Returns the job that job_to_json has written."""
    fields = json.loads(line)
    return JOBS[fields["kind"]](**fields)


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


def split_document(text: str, split: str, size: int = CHUNK_BYTES) -> Iterator[Passage]:
    """Yields a document in passages of about `size` characters; none for an empty document."""
    for number, part in enumerate(cut_at_words(text, size)):
        yield Passage(split, number == 0, part)
