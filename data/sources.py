"""Where the text of a corpus comes from: the user's files, or a built-in world of stories.

    --data.path  ->  a source  ->  for each split, documents in chunks of text

A source also knows its identity, which is part of the cache key of the token files: the identity
changes whenever the text or its split changes.
Previous: stream.py.  Next: token_files.py.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple, Protocol

from cfg_gpt2 import DataConfig, require
from data import SPLITS
from data.stream import TokenStream, document_boundaries
from data.text_files import (
    CHUNK_BYTES,
    MAX_VALIDATION_BYTES,
    Span,
    file_sizes,
    fingerprint,
    read_span,
    split_files,
)
from data.tiny_world.stories import LANGUAGES, corpus, floor_bits_per_byte

SAMPLE_BYTES = 32_000_000  # of training text, from which BPE learns its merges
SAMPLE_STORIES = 4_000  # the same for a built-in world, whose first stories are a fair sample
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
        *,
        chunk_bytes: int = CHUNK_BYTES,
        sample_bytes: int = SAMPLE_BYTES,
    ) -> None:
        """Finds the files of config.path and splits them.

        Raises FileNotFoundError for a path that names no file, and ValueError for an empty file
        and for a mix with a path that adds no file to the paths before it.
        """
        self.chunk_bytes, self.sample_bytes = chunk_bytes, sample_bytes
        files = file_sizes(config.path)
        share = config.validation_share or min(0.1, MAX_VALIDATION_BYTES / sum(files.values()))
        groups = group_by_path(config.path, files) if config.mix else [files]
        splits = [split_files(group, share) for group in groups]
        self.spans = {name: [span for split in splits for span in split[name]] for name in SPLITS}
        self.n_documents = [len(split["train"]) for split in splits]  # of each path, with a mix
        counts = self.n_documents if config.mix else []
        self.identity = [share, *map(fingerprint, files), *counts]

    def n_bytes(self, split: str) -> int:
        """Returns the size of a split in the files, in bytes."""
        return sum(span.stop - span.start for span in self.spans[split])

    def chunks(self, split: str) -> Iterator[TextChunk]:
        """Yields the text of a split, document by document."""
        return read_chunks(self.spans[split], self.chunk_bytes)

    def sample(self) -> Iterator[TextChunk]:
        """Yields at most sample_bytes of the training split, spread evenly over it."""
        share = min(1.0, self.sample_bytes / max(1, self.n_bytes("train")))
        n_read = n_sampled = 0
        for chunk in self.chunks("train"):
            n_read += len(chunk.text)
            if n_sampled + len(chunk.text) <= n_read * share:
                n_sampled += len(chunk.text)
                yield chunk

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


TextSource = TextFileSource | TinyWorldSource


def open_source(config: DataConfig) -> TextSource:
    """Returns the source that config.path names; a built-in world wins over a file of its name.

    Raises FileNotFoundError for a missing path, and ValueError for a world beside other paths and
    for settings that the source does not have.
    """
    worlds = [path for path in config.path if path in LANGUAGES]
    if not worlds:
        wrong = f"--data.stories {config.stories} is for {' and '.join(LANGUAGES)}; leave it out"
        require(config.stories is None, f"{wrong}, {config.path[0]} is read whole")
        return TextFileSource(config)
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


def group_by_path(paths: Sequence[str], files: dict[Path, int]) -> list[dict[Path, int]]:
    """Returns the files of each path, without those that a path before it names as well.

    Raises ValueError where that leaves a path without files.
    """
    groups: list[dict[Path, int]] = []
    remaining = dict(files)
    for path in paths:
        groups.append(
            {file: remaining.pop(file) for file in file_sizes([path]) if file in remaining}
        )
        wrong = f"all files of {path} are in the paths before it; --data.mix needs a text for each"
        require(len(groups[-1]) > 0, wrong)
    return groups
