"""The data: text becomes files of tokens, and token files become batches.

    <|endoftext|> document <|endoftext|> document ... <|endoftext|>      one stream a split
    tokens  = stream[s     : s + T]
    targets = stream[s + 1 : s + T + 1]                                  one window

The stream is a file of 16-bit numbers that is mapped into memory, never read whole, as in
nanoGPT. It is made once and kept under a hash of everything that it was made from, or made by
`python main.py prepare`, in shards, for texts of any size. What data/ has in addition: reading
files, writing token files, shards, and the orders of windows for large and for mixed texts.
Previous: tokenizer.py.  Next: generation.py.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from cfg_gpt2 import DataConfig
from data import SPLITS
from data.prepared import open_prepared
from data.shards import is_prepared
from data.sources import open_source
from data.stream import SCAN_TOKENS, TokenStream, document_boundaries, slice_stream
from data.token_files import META_FILE, Report, cache_key, make_token_files, read_meta
from data.windows import FullWindows, MixedWindows, Window, WindowOrder, require_window
from loss import IGNORE_INDEX
from run_directory.paths import user_path
from tokenizer import Tokenizer

BUCKET_SIZE = 64  # windows (in evaluation, batches) that are sorted by length together
LENGTH_MULTIPLE = 16  # of the length of a batch


@dataclass(frozen=True)
class Split:
    """The tokens of the training or of the validation text, and the size of that text."""

    tokens: TokenStream  # uint16 or uint32, mapped from a file or from shards
    n_bytes: int  # UTF-8 bytes of the text, without the end-of-text tokens
    text_starts: tuple[int, ...] = (0,)  # with --data.mix: where the text of each path begins

    @property
    def n_targets(self) -> int:
        """The tokens that are predicted: all but the first."""
        return len(self.tokens) - 1


@dataclass(frozen=True)
class Corpus:
    """A text as the trainer needs it: tokenizer, training tokens and validation tokens."""

    tokenizer: Tokenizer
    train: Split
    validation: Split
    floor_bits_per_byte: float | None  # the entropy of the text; known for the built-in worlds
    mix: tuple[float, ...] = ()  # the weight of each path; empty: in proportion to its length
    shards_sha256: str = ""  # of a text in shards, which is too large to be read for this
    notes: tuple[str, ...] = ()  # what people should know of the files, such as what is left out

    def windows(self, context_length: int, seed: int) -> "TrainingWindows":
        """Returns the training windows in the order in which they are read.

        Raises ValueError where the text is shorter than a window.
        """
        starts, end_of_text = self.train.text_starts, self.tokenizer.end_of_text
        stops = [start + 1 for start in starts[1:]] + [len(self.train.tokens)]
        orders: list[WindowOrder] = []
        for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            stream = slice_stream(self.train.tokens, start, stop)
            if self.shards_sha256:
                orders.append(FullWindows(stream, context_length, seed + k))
            else:
                orders.append(DocumentWindows(stream, context_length, seed + k, end_of_text))
        order = MixedWindows(orders, self.mix) if self.mix else orders[0]
        return TrainingWindows(order, context_length, end_of_text)

    def evaluation_batches(
        self, context_length: int, batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields batches with every target of the validation text once: (B, T), (B, T) int64."""
        end_of_text = self.tokenizer.end_of_text
        return evaluation_batches(self.validation, context_length, batch_size, end_of_text)

    def sha256(self) -> str:
        """Returns a hash of all tokens, which tells a resumed run whether its text changed."""
        if self.shards_sha256:
            return self.shards_sha256
        digest = hashlib.sha256()
        for split in (self.train, self.validation):
            for start in range(0, len(split.tokens), SCAN_TOKENS):
                digest.update(split.tokens[start : start + SCAN_TOKENS].tobytes())
            digest.update(b"|")
        return digest.hexdigest()


def load_corpus(config: DataConfig, report: Report | None = None) -> Corpus:
    """Opens the token files of a text, and makes them where config.cache_dir has none yet.

    Raises FileNotFoundError for a missing path or vocabulary; ValueError for a text that is
    empty, too short to be split or not UTF-8, and for shards that do not belong together; OSError
    where the files cannot be written.
    """
    if any(map(is_prepared, config.path)):
        return load_prepared(config)
    source = open_source(config)
    folder = user_path(config.cache_dir, "--data.cache-dir") / cache_key(config, source)
    if not (folder / META_FILE).is_file():
        make_token_files(folder, source, config, report)
    meta = read_meta(folder)
    tokenizer = Tokenizer.load(folder)
    tokens = {split: np.memmap(folder / f"{split}.bin", meta.dtype, "r") for split in SPLITS}
    starts = source.text_starts(tokens["train"], tokenizer.end_of_text) if config.mix else (0,)
    train = Split(tokens["train"], meta.n_bytes["train"], starts)
    validation = Split(tokens["validation"], meta.n_bytes["validation"])
    floor, notes = meta.floor_bits_per_byte, tuple(source.notes(meta.n_bytes))
    return Corpus(tokenizer, train, validation, floor, config.mix, notes=notes)


def load_prepared(config: DataConfig) -> Corpus:
    """Opens the shards of one or several folders that `prepare` wrote, as one text."""
    text = open_prepared(config)
    tokenizer = Tokenizer.load(text.folder)
    for stream in text.streams.values():
        stream.n_ids = tokenizer.vocab_size
    starts = text.text_starts if config.mix else (0,)
    train = Split(text.streams["train"], text.n_bytes["train"], starts)
    validation = Split(text.streams["validation"], text.n_bytes["validation"])
    return Corpus(tokenizer, train, validation, None, config.mix, shards_sha256=text.sha256)


@dataclass(frozen=True)
class TrainingWindows:
    """The training windows of a corpus, read as batches. A position is the number of a window."""

    order: WindowOrder
    context_length: int
    end_of_text: int  # stands in the padding

    def batch(self, first: int, count: int, step: int = 1) -> tuple[Tensor, Tensor]:
        """Returns windows first, first + step, ..., `count` in all: two of (B, T) int64."""
        windows = [self.order.window(n) for n in range(first, first + count * step, step)]
        return collate(windows, self.context_length, self.end_of_text)

    def epochs(self, n_windows: int) -> list[float]:
        """Returns how often the first n_windows go through the text, or each of several texts."""
        return self.order.epochs(n_windows)


class DocumentWindows(WindowOrder):
    """Windows that begin where documents begin, each of them once an epoch, in random order.

    Each epoch splits the stream from another random phase. Every BUCKET_SIZE windows that follow
    each other are sorted by length (length bucketing), so that little of a batch is padding: 9%
    instead of 22% on tiny-world. All of it is a pure function of the seed and the epoch.
    """

    def __init__(
        self, stream: TokenStream, context_length: int, seed: int, end_of_text: int
    ) -> None:
        """Raises ValueError where the stream is shorter than a window and its last target."""
        require_window(len(stream), context_length)
        self.stream, self.context_length, self.seed = stream, context_length, seed
        self.boundaries = document_boundaries(stream, end_of_text)
        self.remainder = (len(stream) - 1) % context_length
        self._start_epoch(0, first=0)

    def _start_epoch(self, epoch: int, first: int) -> None:
        """Lays out the windows of an epoch, of which the first has the number `first`."""
        words = np.random.SeedSequence((self.seed % 2**64, epoch)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(words[0]))
        phase = int(torch.randint(self.remainder + 1, (), generator=generator))
        spans = split_at_documents(self.boundaries, phase, len(self.stream), self.context_length)
        in_order = np.fromiter(spans, dtype=(np.int64, 2))  # tuples would take 10 times the memory
        shuffled = in_order[torch.randperm(len(in_order), generator=generator).numpy()]
        lengths = shuffled[:, 1] - shuffled[:, 0]
        bucketed = np.lexsort((lengths, np.arange(len(lengths)) // BUCKET_SIZE))
        self.epoch, self.first, self.spans = epoch, first, shuffled[bucketed]

    def window(self, number: int) -> Window:
        """Returns the window with a number; see WindowOrder."""
        if number < self.first:
            self._start_epoch(0, first=0)
        while number >= self.first + len(self.spans):
            self._start_epoch(self.epoch + 1, self.first + len(self.spans))
        start, stop = self.spans[number - self.first].tolist()
        return Window(self.stream, start, stop - start)

    def epochs(self, n_windows: int) -> list[float]:
        """Returns the epochs that so many windows make; see WindowOrder."""
        return [n_windows / len(self.spans)]


def evaluation_batches(
    split: Split, context_length: int, batch_size: int, end_of_text: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches that hold every target of a split exactly once: (B, T), (B, T) int64.

    Windows are bucketed by length, as in training.
    """
    boundaries = document_boundaries(split.tokens, end_of_text)
    spans = split_at_documents(boundaries, 0, len(split.tokens), context_length)
    windows = (Window(split.tokens, start, stop - start) for start, stop in spans)
    while bucket := list(islice(windows, BUCKET_SIZE * batch_size)):
        bucket.sort(key=lambda window: window.length)
        for first in range(0, len(bucket), batch_size):
            yield collate(bucket[first : first + batch_size], context_length, end_of_text)


def split_at_documents(
    boundaries: np.ndarray, start: int, n_tokens: int, context_length: int
) -> Iterator[tuple[int, int]]:
    """Yields the windows of a stream from `start` on, each as the positions of its first token
    and of its last target.

    A window ends at the last document boundary within its reach: a document that fits is read
    whole, from its start. Were it cut, the model would pay for a past that it cannot see, and
    would look for it in the document before. One long text has no boundaries inside and gives
    full windows, end to end.
    """
    last = n_tokens - 1
    while start < last:
        stop = min(start + context_length, last)
        n_reached = int(np.searchsorted(boundaries, stop, side="right"))
        if n_reached and boundaries[n_reached - 1] > start:
            stop = int(boundaries[n_reached - 1])
        yield start, stop
        start = stop


def collate(
    windows: Sequence[Window], context_length: int, end_of_text: int
) -> tuple[Tensor, Tensor]:
    """Returns windows as one batch of tokens and targets, (B, T) int64.

    T is the length of the longest window, rounded up to a multiple of LENGTH_MULTIPLE, because
    kernels are prepared anew for every other shape. The targets behind a shorter window are
    IGNORE_INDEX, which the loss does not count.
    """
    longest = max(window.length for window in windows)
    width = min(context_length, -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE)
    tokens = np.full((len(windows), width), end_of_text, dtype=np.int64)
    targets = np.full((len(windows), width), IGNORE_INDEX, dtype=np.int64)
    for row, (stream, s, T) in enumerate(windows):
        tokens[row, :T] = stream[s : s + T]
        targets[row, :T] = stream[s + 1 : s + T + 1]
    return torch.from_numpy(tokens), torch.from_numpy(targets)
