"""Where the text of a corpus comes from: the user's files, or a built-in world of stories.

    --data.path  ->  a source  ->  for each split, documents in chunks of text

A source also knows its identity, which is part of the cache key of the token files: the identity
changes whenever the text or its split changes.
Previous: notes.py.  Next: token_files.py.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple, Protocol

from cfg_gpt2 import DataConfig, require
from data import SPLITS
from data.file_types import FileType, common_type
from data.json_lines import TEXT_FIELD, read_lines
from data.notes import note_on_share, notes_on_files, notes_on_marks
from data.splits import share_or_default, split_files
from data.stream import TokenStream, document_boundaries
from data.text_files import (
    CHUNK_BYTES,
    FoundFiles,
    Span,
    cut_at_words,
    find_files,
    fingerprint,
    read_span,
)
from data.tiny_world.stories import LANGUAGES, corpus, floor_bits_per_byte
from run_directory.printable import quoted

SAMPLE_BYTES = 32_000_000  # of training text, from which BPE learns its merges
SAMPLE_STORIES = 4_000  # the same for a built-in world, whose first stories are a fair sample
FIRST_BYTES = 1 << 20  # of JSONL, by which the size of its text is estimated
SHARDS_OF = "training reads shards of it: python main.py prepare --data.path"
TINY_WORLD = Path(__file__).with_name("tiny_world")  # the code that generates the stories


class TextChunk(NamedTuple):
    """A part of a document's text. The chunk with start 0 begins the document."""

    document: str  # its name, for messages
    start: int  # position of the chunk in the document, in characters
    text: str


class ChunkedText(Protocol):
    """The part of a source that writing its tokens needs."""

    def n_bytes(self, split: str) -> int:
        """Returns the size of a split in bytes, or an estimate of it."""
        ...

    def chunks(self, split: str) -> Iterator[TextChunk]:
        """Yields the text of a split, document by document."""
        ...


class TextFileSource:
    """The user's text files, each of them one document."""

    def __init__(
        self,
        config: DataConfig,
        found: FoundFiles | None = None,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        sample_bytes: int = SAMPLE_BYTES,
    ) -> None:
        """Splits the files of config.path, which are found where `found` does not have them.

        Raises FileNotFoundError for a path that names no file, and ValueError for empty files
        and for a mix with a path that adds no file to the paths before it.
        """
        self.chunk_bytes, self.sample_bytes = chunk_bytes, sample_bytes
        self.found = found or find_files(config.path)
        files = self.found.sizes
        self.share = share_or_default(config.validation_share, sum(files.values()))
        if config.mix:
            require_files_of_each(config.path, self.found)
        groups = self.found.by_path if config.mix else [files]
        splits = [split_files(group, self.share) for group in groups]
        self.spans = {name: [span for split in splits for span in split[name]] for name in SPLITS}
        self.n_documents = [len(split["train"]) for split in splits]  # of each path, with a mix
        counts = self.n_documents if config.mix else []
        self.identity = [self.share, *map(fingerprint, files), *counts]

    def n_bytes(self, split: str) -> int:
        """Returns the size of a split in the files, in bytes."""
        return sum(span.stop - span.start for span in self.spans[split])

    def chunks(self, split: str) -> Iterator[TextChunk]:
        """Yields the text of a split, document by document."""
        return read_chunks(self.spans[split], self.chunk_bytes)

    def sample(self) -> Iterator[TextChunk]:
        """Yields at most sample_bytes of the training split, spread evenly over it."""
        return spread_evenly(
            self.chunks("train"), self.sample_bytes / max(1, self.n_bytes("train"))
        )

    def notes(self, n_bytes: dict[str, int]) -> list[str]:
        """Returns what people should know of these files; n_bytes are those of the splits."""
        return [
            *notes_on_files(self.found),
            *notes_on_marks(self.found.sizes),
            *note_on_share(self.share, n_bytes),
        ]

    def floor(self) -> float | None:
        """Returns None: nobody knows the entropy of a text that people wrote."""
        return None

    def text_starts(self, tokens: TokenStream, end_of_text: int) -> tuple[int, ...]:
        """Returns the positions in the training stream at which the text of each path begins.

        Raises ValueError where the stream has fewer documents than there are files.
        """
        boundaries = document_boundaries(tokens, end_of_text)
        require(
            len(boundaries) == sum(self.n_documents) + 1,
            "a file holds nothing but a byte order mark; leave it out to use --data.mix",
        )
        first_documents = accumulate(self.n_documents[:-1], initial=0)
        return tuple(int(boundaries[number]) for number in first_documents)


class JsonLinesSource:
    """The user's JSONL files: each line is a document, its text stands in the field `text`."""

    def __init__(self, config: DataConfig, found: FoundFiles) -> None:
        """Raises ValueError for a mix, whose parts must be known before they are read."""
        require(
            not config.mix,
            f"--data.mix of JSONL is read from shards; make them of {config.path[0]} and the "
            "others with python main.py prepare, and name them by --data.path",
        )
        self.found, self.size = found, sum(found.sizes.values())
        self.share = share_or_default(config.validation_share, self.size)
        self.identity = ["lines", TEXT_FIELD, self.share, *map(fingerprint, found.sizes)]

    @cached_property
    def text_bytes(self) -> float:
        """The bytes of text in all files, estimated from the lines at the beginning of the first.

        The rest are names of fields, other fields, and escapes.
        """
        file, size = next(iter(self.found.sizes.items()))
        stop = min(size, FIRST_BYTES)
        lines = read_lines(file, TEXT_FIELD, self.share, 0, stop)
        return self.size * min(1.0, sum(len(line.text.encode()) for line in lines) / stop)

    def n_bytes(self, split: str) -> int:
        """Returns the size of a split's text in bytes, estimated."""
        share = self.share if split == "validation" else 1 - self.share
        return max(1, round(self.text_bytes * share))

    def chunks(self, split: str) -> Iterator[TextChunk]:
        """Yields the text of a split, document by document."""
        for file in self.found.sizes:
            yield from line_chunks(file, self.share, split)

    def sample(self) -> Iterator[TextChunk]:
        """Yields at most SAMPLE_BYTES of the training split, spread evenly over it."""
        return spread_evenly(self.chunks("train"), SAMPLE_BYTES / self.n_bytes("train"))

    def floor(self) -> float | None:
        """Returns None: nobody knows the entropy of a text that people wrote."""
        return None

    def text_starts(self, tokens: TokenStream, end_of_text: int) -> tuple[int, ...]:
        """Returns (0,): JSONL is never mixed by weight."""
        return (0,)

    def notes(self, n_bytes: dict[str, int]) -> list[str]:
        """Returns what people should know of these files; n_bytes are those of the splits."""
        return [*notes_on_files(self.found), *note_on_share(self.share, n_bytes)]


class TinyWorldSource:
    """A built-in world: each story is one document, and the entropy of the text is known."""

    def __init__(self, name: str, config: DataConfig) -> None:
        """name is a key of LANGUAGES; config has the number of stories and the share of them
        that is for validation.
        """
        self.language = LANGUAGES[name]
        self.n_train = config.stories or 40_000
        limit = None if config.validation_share else 1000  # enough for the floor, and soon read
        n_validation = round(self.n_train * (config.validation_share or 0.05))
        self.n_validation = max(1, min(n_validation, limit or n_validation))
        code = [file.read_bytes() for file in sorted(TINY_WORLD.glob("*.py"))]
        code_sha256 = hashlib.sha256(b"".join(code)).hexdigest()
        self.identity = [name, self.n_train, self.n_validation, code_sha256]

    def n_bytes(self, split: str) -> int:
        """Returns the size of a split in bytes, estimated from a hundred stories."""
        n_bytes = sum(len(story.text.encode()) for story in corpus(self.language, 0, 100)[1])
        return n_bytes * (self.n_train if split == "train" else self.n_validation) // 100

    def chunks(self, split: str) -> Iterator[TextChunk]:
        """Yields the stories of a split."""
        train, validation = corpus(self.language, self.n_train, self.n_validation)
        for number, story in enumerate(train if split == "train" else validation):
            yield TextChunk(f"story {number}", 0, story.text)

    def sample(self) -> Iterator[TextChunk]:
        """Yields the first stories of the training split."""
        return islice(self.chunks("train"), SAMPLE_STORIES)

    def floor(self) -> float | None:
        """Returns the entropy of the validation stories, in bits per byte."""
        return floor_bits_per_byte(corpus(self.language, 0, self.n_validation)[1])

    def text_starts(self, tokens: TokenStream, end_of_text: int) -> tuple[int, ...]:
        """Returns (0,): a built-in world is never mixed with another text."""
        return (0,)

    def notes(self, n_bytes: dict[str, int]) -> list[str]:
        """Returns nothing: a built-in world has no files."""
        return []


TextSource = TextFileSource | JsonLinesSource | TinyWorldSource


def open_source(config: DataConfig) -> TextSource:
    """Returns the source that config.path names; a built-in world wins over a file of its name.

    Raises FileNotFoundError for a missing path, and ValueError for a world beside other paths and
    for settings that the source does not have.
    """
    worlds = [path for path in config.path if path in LANGUAGES]
    if not worlds:
        wrong = f"--data.stories {config.stories} is for {' and '.join(LANGUAGES)}; leave it out"
        require(config.stories is None, f"{wrong}, {config.path[0]} is read whole")
        found = find_files(config.path)
        is_lines = text_type(found) == "JSONL"
        return JsonLinesSource(config, found) if is_lines else TextFileSource(config, found)
    wrong = f"--data.path {worlds[0]} stands alone, for its floor holds for nothing else; "
    require(len(config.path) == 1, f"{wrong}write ./{worlds[0]} for a file of that name")
    require(not config.mix, f"--data.mix is for several texts; leave it out with {worlds[0]}")
    return TinyWorldSource(worlds[0], config)


def read_chunks(spans: Iterable[Span], chunk_bytes: int = CHUNK_BYTES) -> Iterator[TextChunk]:
    """Yields the text of parts of files in chunks; each part is a document."""
    for span in spans:
        start = 0
        for text in read_span(span, chunk_bytes):
            yield TextChunk(str(span.path), start, text)
            start += len(text)


def line_chunks(file: Path, share: float, split: str) -> Iterator[TextChunk]:
    """Yields the text of the documents of a JSONL file that belong to a split, in chunks."""
    for document in read_lines(file, TEXT_FIELD, share):
        start = 0
        for text in cut_at_words(document.text) if document.split == split else ():
            yield TextChunk(document.where, start, text)
            start += len(text)


def spread_evenly(chunks: Iterable[TextChunk], share: float) -> Iterator[TextChunk]:
    """Yields a share of the chunks' text, at most all of it, spread evenly over them."""
    n_read = n_sampled = 0
    for chunk in chunks:
        n_read += len(chunk.text)
        if n_sampled + len(chunk.text) <= n_read * min(1.0, share):
            n_sampled += len(chunk.text)
            yield chunk


def text_type(found: FoundFiles) -> FileType:
    """Returns "text" or "JSONL". Raises ValueError for files of several kinds, and for Parquet."""
    found_type = common_type(found.sizes)
    first = next(iter(found.sizes))
    require(
        found_type != "Parquet",
        f"{first} is Parquet, and {SHARDS_OF} {quoted(first)} --out shards",
    )
    return found_type


def require_files_of_each(paths: Sequence[str], found: FoundFiles) -> None:
    """Raises ValueError where a path names no file that the paths before it do not name."""
    for path, files in zip(paths, found.by_path, strict=True):
        wrong = f"all files of {path} are in the paths before it; --data.mix needs a text for each"
        require(len(files) > 0, wrong)
