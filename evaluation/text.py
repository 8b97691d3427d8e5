"""The text that is scored: whole files, or the validation split of the run's own data.

    <|endoftext|> document <|endoftext|> document ... <|endoftext|>      the stream, as in training

Previous: measure_text.py.  Next: windows.py.
"""

import codecs
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cfg_gpt2 import DataConfig, require
from data.notes import notes_on_files, notes_on_marks
from data.shards import is_prepared
from data.sources import (
    TextChunk,
    TextSource,
    line_chunks,
    open_source,
    read_chunks,
    text_type,
)
from data.stream import token_dtype
from data.text_files import Span, find_files
from data.tiny_world.stories import LANGUAGES
from data.token_files import Report, write_tokens
from load_data import Split
from run_directory.config_file import own_data
from run_directory.paths import name_as_text
from tokenizer import Tokenizer

HELD_OUT, VALIDATION = "held-out", "validation"  # the names of the splits


class WholeFileSource:
    """Text files or JSONL that are scored as a whole, in one split."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Finds the files.

        Raises FileNotFoundError for a missing file, ValueError for an empty one.
        """
        self.found = find_files(paths)
        self.files, self.type = self.found.sizes, text_type(self.found)
        for file, size in self.files.items():
            mark = size == len(codecs.BOM_UTF8) and file.read_bytes() == codecs.BOM_UTF8
            require(not mark, f"{file} is empty but for its byte order mark; give it some text")
        self.identity = [str(file) for file in self.files]

    def n_bytes(self, split: str) -> int:
        """Returns the size of the files in bytes."""
        return sum(self.files.values())

    def chunks(self, split: str) -> Iterator[TextChunk]:
        """Yields the text, document by document."""
        if self.type == "JSONL":
            return (chunk for file in self.files for chunk in line_chunks(file, 0.0, "train"))
        return read_chunks(Span(file, 0, size) for file, size in self.files.items())

    def notes(self) -> list[str]:
        """Returns what people should know of these files."""
        marks = notes_on_marks(self.files) if self.type == "text" else []
        return [*notes_on_files(self.found), *marks]

    def floor(self) -> float | None:
        """Returns None: nobody knows the entropy of a text that people wrote."""
        return None


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text that several runs score, each with its own tokenizer."""

    about: str  # a description for people
    name: str  # of the result files
    paths: tuple[str, ...]  # as given by --data.path
    split: str
    source: TextSource | WholeFileSource
    notes: tuple[str, ...] = ()  # what people should know of the files

    def floor(self) -> float | None:
        """Returns the entropy of the text in bits per byte, or None where nobody knows it."""
        return self.source.floor()

    def sha256(self) -> str:
        """Returns the SHA-256 of the documents in UTF-8, with a zero byte before each."""
        digest = hashlib.sha256()
        for chunk in self.source.chunks(self.split):
            digest.update((b"" if chunk.start else b"\0") + chunk.text.encode())
        return digest.hexdigest()

    @contextmanager
    def tokens(self, tokenizer: Tokenizer, report: Report) -> Iterator[Split]:
        """Yields the stream of tokens, in a temporary file that is mapped into memory.

        Raises ValueError for bytes that are not UTF-8 and for a character that the tokenizer does
        not have.
        """
        dtype = token_dtype(tokenizer.vocab_size)
        with tempfile.TemporaryFile() as file:  # without a name, so nothing is left of it
            n_bytes = write_tokens(file, dtype, self.source, self.split, tokenizer, report)
            yield Split(np.memmap(file, dtype, "r"), n_bytes)


def open_text(paths: tuple[str, ...] | None, run: Path) -> Text:
    """Returns the text that --data.path names, or else the validation split of the run's data.

    Raises FileNotFoundError for a missing file, ValueError for one without text.
    """
    if paths is None:
        return validation_text_of(run)
    if any(path in LANGUAGES for path in paths):
        text = validation_text(DataConfig(path=paths))
        return replace(text, name=f"{VALIDATION}-of-{paths[0]}")
    for path in paths:
        require(not is_prepared(path), f"{path} holds tokens and no text; name a text")
    source = WholeFileSource(paths)
    files = list(source.files)
    others = f"-and-{len(files) - 1}-more" if len(files) > 1 else ""
    return Text(
        about=", ".join(paths) + (f", {len(files)} files" if len(files) > len(paths) else ""),
        name=name_as_text(files[0].stem) + others, paths=paths, split=HELD_OUT, source=source,
        notes=tuple(source.notes()),
    )  # fmt: skip


def validation_text_of(run: Path) -> Text:
    """Returns the validation split of the run's own data.

    Raises FileNotFoundError where that data is missing, ValueError for an imported model.
    """
    data = own_data(run)
    try:
        return validation_text(data)
    except FileNotFoundError:
        missing = ", ".join(data.path)
        raise FileNotFoundError(
            f"{run} learned from {missing}, which is not here; name a text by --data.path"
        ) from None


def validation_text(data: DataConfig) -> Text:
    """Returns the validation split that training with these settings evaluates on.

    Raises ValueError for token shards, which hold no text.
    """
    for path in data.path:
        require(
            not is_prepared(path),
            f"{path} holds tokens and no text, and a text is what is scored; name one by "
            "--data.path",
        )
    about = f"the validation split of {', '.join(data.path)}"
    return Text(
        about=about, name=VALIDATION, paths=data.path, split=VALIDATION, source=open_source(data)
    )
