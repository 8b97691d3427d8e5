"""The text that is scored: whole files, or what a run kept apart from its own data.

    <|endoftext|> document <|endoftext|> document ... <|endoftext|>      the stream, as in training

Previous: settings.py.  Next: windows.py.
"""

import codecs
import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfg_gpt2 import DataConfig, require
from data.shards import is_prepared
from data.sources import TextFileSource, TextSource, TinyWorldSource, open_source
from data.stream import token_dtype
from data.text_files import CHUNK_BYTES, Span, file_sizes
from data.tiny_world.stories import LANGUAGES
from data.token_files import Report, write_tokens
from load_data import Split
from run_directory.config_file import read_config
from tokenizer import Tokenizer

WHOLE, KEPT_APART = "held-out", "validation"


class Files(TextFileSource):
    """Whole files, each a document."""

    def __init__(self, paths: Iterable[str]) -> None:
        files = file_sizes(paths)
        self.chunk_bytes = CHUNK_BYTES
        for file, size in files.items():
            mark = size == len(codecs.BOM_UTF8) and file.read_bytes() == codecs.BOM_UTF8
            require(not mark, f"{file} is empty but for its byte order mark; give it some text")
        self.spans = {WHOLE: [Span(file, 0, size) for file, size in files.items()]}
        self.identity = [str(file) for file in files]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text, to be read by one tokenizer after the other."""

    about: str  # for people
    name: str  # for the names of files
    paths: tuple[str, ...]  # as they were named
    split: str
    source: TextSource

    def floor(self) -> float | None:
        """Bits per byte that no model can beat, where that is known."""
        return self.source.floor() if isinstance(self.source, TinyWorldSource) else None

    def sha256(self) -> str:
        """Of the documents in UTF-8, a zero byte before each."""
        found = hashlib.sha256()
        for chunk in self.source.chunks(self.split):
            found.update((b"" if chunk.start else b"\0") + chunk.text.encode())
        return found.hexdigest()

    @contextmanager
    def tokens(self, tokenizer: Tokenizer, report: Report) -> Iterator[Split]:
        """The stream of tokens, in a file that is mapped into memory and goes away again.

        Raises ValueError for no UTF-8, and for a character that the tokenizer does not know.
        """
        dtype = token_dtype(tokenizer.vocab_size)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # Windows keeps
            file = Path(folder, "tokens.bin")  # a file that is still mapped
            n_bytes = write_tokens(file, dtype, self.source, self.split, tokenizer, report)
            yield Split(np.memmap(file, dtype, "r"), n_bytes)


def open_text(paths: tuple[str, ...] | None, run: Path) -> Text:
    """What --data.path names; where it names nothing, what the run kept apart from its data.

    Raises FileNotFoundError for a missing file, ValueError for one without text.
    """
    if paths is None:
        return own_text(run)
    if any(path in LANGUAGES for path in paths):
        return kept_apart(DataConfig(path=paths))
    for path in paths:
        require(not is_prepared(path), f"{path} holds tokens and no text; name a text")
    source = Files(paths)
    files = [span.path for span in source.spans[WHOLE]]
    others = f"-and-{len(files) - 1}-more" if len(files) > 1 else ""
    return Text(
        about=", ".join(paths) + (f", {len(files)} files" if len(files) > len(paths) else ""),
        name=files[0].stem + others, paths=paths, split=WHOLE, source=source,
    )  # fmt: skip


def own_text(run: Path) -> Text:
    """The validation split of the run's own data."""
    data = read_config(run).data
    try:
        return kept_apart(data)
    except FileNotFoundError:
        missing = ", ".join(data.path)
        raise FileNotFoundError(
            f"{run} learned from {missing}, which is not here; name a text by --data.path"
        ) from None


def kept_apart(data: DataConfig) -> Text:
    """The validation split that training with these settings measures."""
    for path in data.path:
        require(
            not is_prepared(path),
            f"{path} holds tokens and no text, and a text is what is scored; name one by "
            "--data.path",
        )
    about = f"the validation split of {', '.join(data.path)}"
    return Text(
        about=about, name=KEPT_APART, paths=data.path, split=KEPT_APART, source=open_source(data)
    )
