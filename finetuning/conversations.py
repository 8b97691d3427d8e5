"""The labelled data of a user: files become dialogues, or pairs of a better and a worse answer.

    read_conversations(["chat.jsonl", "more/*.json"]) -> Conversations

The format of a file is told by the keys of its first row. Nothing is skipped: the first bad row is
an error with its file, its line and an example of what is expected there. Equal prompts never stand
on both sides of the split.
Previous: chat_format.py.  Next: row_formats.py.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from cfg_gpt2 import require
from data.text_files import find_files, in_words
from finetuning.chat_format import Dialogue
from finetuning.row_formats import (
    QUESTION,
    Pair,
    Question,
    RowFormat,
    Value,
    format_like,
    format_of,
    read_row,
    unread_fields,
)
from finetuning.rows import DATA, rows_of
from run_directory.json_file import shortened
from run_directory.paths import name_as_text

VALIDATION_SHARE = 0.1
MAX_VALIDATION = 1000  # dialogues: every evaluation reads all of them
NAMED_FIELDS = 8  # in the line that says what is not read
Item = TypeVar("Item", Dialogue, Pair)


@dataclass
class RowsOfFiles:
    """What the rows of files hold, in their order, and what people should know of them."""

    values: list[Value] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)  # number of rows of each
    files: list[Path] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)  # names of fields that nobody reads
    left_out: str = ""  # what is in the folders besides


@dataclass(frozen=True)
class Conversations:
    """Dialogues or preference pairs, one of the two, with what people should know of them."""

    dialogues: list[Dialogue]
    pairs: list[Pair]
    n_duplicates: int  # rows that are the same as one before them
    rows: RowsOfFiles

    @property
    def notes(self) -> list[str]:
        """Sentences for the screen: the formats with their counts, and what is not read."""
        rows = self.rows
        notes = [
            ", ".join(
                f"{n:,} {'row' if n == 1 else 'rows'} of {name}" for name, n in rows.formats.items()
            )
        ]
        if self.n_duplicates:
            notes[0] += f", {self.n_duplicates:,} of them the same as one before"
        if rows.unread:
            names = sorted(shortened(repr(name)[1:-1], 40) for name in rows.unread)
            more = f" and {len(names) - NAMED_FIELDS:,} others" * (len(names) > NAMED_FIELDS)
            notes.append(f"fields that are not read: {', '.join(names[:NAMED_FIELDS])}{more}")
        if rows.left_out:
            kinds = ", ".join(f"*{suffix}" for suffix in DATA.suffixes)
            notes.append(f"left out: {rows.left_out}; a folder stands for its {kinds} files")
        return notes


def read_conversations(paths: Sequence[str]) -> Conversations:
    """Returns the dialogues or the preference pairs of files, folders and globs.

    A question with its right answers is read as a dialogue that ends with the first of them.
    Raises FileNotFoundError for a path that names no file, and ValueError for the first row that
    cannot be read, and where dialogues and pairs are mixed.
    """
    rows = read_files(paths)
    values = [value.dialogue if isinstance(value, Question) else value for value in rows.values]
    pairs = [value for value in values if isinstance(value, Pair)]
    dialogues = [value for value in values if not isinstance(value, Pair)]
    require(
        not (pairs and dialogues),
        f"--data names {len(dialogues):,} dialogues and {len(pairs):,} preference pairs; name the "
        "files of one kind only",
    )
    return Conversations(dialogues, pairs, len(values) - len(set(values)), rows)


def read_questions(paths: Sequence[str], flag: str = "--task") -> list[Question]:
    """Returns the questions of files, folders and globs, for an exam.

    A question without a kind has the name of its file as its kind. flag is the one that named the
    paths, for errors. Raises as read_conversations does, and ValueError for a row of a format that
    does not say which answers are right.
    """
    rows = read_files(paths, flag)
    questions = [value for value in rows.values if isinstance(value, Question)]
    require(
        len(questions) == len(rows.values),
        f"of the {len(rows.values):,} rows ({', '.join(rows.formats)}) only {len(questions):,} are "
        f"questions with the answers that are right; give an object a line, such as {QUESTION}",
    )
    return questions


def read_files(paths: Sequence[str], flag: str = DATA.flag) -> RowsOfFiles:
    """Returns what the rows of all files hold. Raises ValueError for the first bad row."""
    found = find_files(paths, DATA._replace(flag=flag))
    rows = RowsOfFiles(files=list(found.sizes), left_out=in_words(found.left_out))
    for file in rows.files:
        n_before = len(rows.values)
        read_file(file, rows)
        require(
            len(rows.values) > n_before,
            f"{name_as_text(file)} has no rows; leave it out, or give it some",
        )
    return rows


def read_file(file: Path, rows: RowsOfFiles) -> None:
    """Adds the rows of one file, all in the format of the first."""
    first: RowFormat | None = None
    for row in rows_of(file):
        try:
            first = first or format_of(row.fields)
            row_format = format_like(row.fields, first)
            value = read_row(row.fields, row_format)
        except ValueError as error:
            raise ValueError(f"{row.where}: {error}") from None
        if isinstance(value, Question) and not value.kind:
            value = replace(value, kind=file.stem)
        rows.values.append(value)
        rows.formats[row_format.name] += 1
        rows.unread |= unread_fields(row.fields, row_format)


# The split ------------------------------------------------------------------------------------


def split(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Returns the items for training and those for validation, each in their order.

    Validation gets a tenth of them, at least 1 and at most MAX_VALIDATION, the last by a hash of
    their first user message: all items with the same one stand on the same side.
    Raises ValueError where all of them begin with the same message.
    """
    groups: dict[str, list[int]] = {}
    for number, item in enumerate(items):
        groups.setdefault(hash_of_prompt(item), []).append(number)
    require(
        len(groups) > 1,
        f"all {len(items):,} rows begin with the same message of the user's, so that none can be "
        "kept for validation; give rows with another one",
    )
    limit = min(max(1, int(len(items) * VALIDATION_SHARE)), MAX_VALIDATION)
    kept: set[int] = set()
    for _, numbers in sorted(groups.items(), reverse=True):
        if len(kept) + len(numbers) <= limit:
            kept.update(numbers)
    kept = kept or set(min(groups.values(), key=len))  # of large groups only, the smallest
    train = [item for number, item in enumerate(items) if number not in kept]
    return train, [items[number] for number in sorted(kept)]


def hash_of_prompt(item: Dialogue | Pair) -> str:
    """Returns a hash of an item's first user message."""
    messages = item.prompt if isinstance(item, Pair) else item
    text = next(message.content for message in messages if message.role == "user")
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
