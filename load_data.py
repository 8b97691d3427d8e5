"""The data: text becomes files of tokens, and token files become batches.

    <|endoftext|> document <|endoftext|> document ... <|endoftext|>      one stream a split
    tokens  = stream[s     : s + T]
    targets = stream[s + 1 : s + T + 1]                                  one window

The stream stands in a file of 16-bit numbers that is mapped into memory, never read whole, as in
nanoGPT. It is made once and found again by a hash of everything that it was made from, or made
by `python main.py prepare`, in shards, for texts of any size.
Previous: tokenizer.py.  Next: generation.py.
"""

import hashlib
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cfg_gpt2 import DataConfig, require
from data.order import Permutation, Shares
from data.shards import Stream, is_prepared, open_shards
from data.text_files import MOST_VALIDATION, read_span, sizes, split_files, stamp
from data.tiny_world.stories import LANGUAGES, corpus, floor_bits_per_byte
from loss import IGNORE_INDEX
from tokenizer import Tokenizer, UnseenCharacter, vocabulary_files

Report = Callable[[int, int, str], None]  # (bytes done, bytes in all, what is being done)

FORMAT = 1  # of the token files; raised when the same text would give other files
META_FILE = "meta.json"
SPLITS = ("train", "validation")
VOCAB_SIZE = 2048  # of a trained bpe, where no other is asked for
NEIGHBOURS = 64  # windows that are sorted by length
ROUNDING = 16  # of the length of windows in a batch
BATCH = 1 << 21  # characters encoded at a time, on all cores
SAMPLE = 32_000_000  # bytes of training text that bpe learns its merges from
SAMPLE_STORIES = 4_000  # the same for a built-in world, where the first stories are a fair sample
SCAN = 1 << 24  # tokens searched for document borders at a time
WORLD = Path(__file__).with_name("data") / "tiny_world"  # the code that makes the stories


@dataclass(frozen=True)
class Split:
    """The tokens of one split and the size of its text."""

    tokens: np.ndarray | Stream  # uint16 or uint32, mapped from a file or from shards
    n_bytes: int  # UTF-8 bytes of the text; end-of-text tokens stand for none
    starts: tuple[int, ...] = (0,)  # with --data.mix: where the text of each path begins


@dataclass(frozen=True)
class Corpus:
    """A text, ready to be learned."""

    tokenizer: Tokenizer
    train: Split
    validation: Split
    floor_bits_per_byte: float | None  # what no model can beat; known for the built-in worlds
    mix: tuple[float, ...] = ()  # the weight of each path; empty: as long as each is
    in_shards: bool = False  # too large to be looked through
    checksum: str = ""  # of shards, made of those in their index

    def sha256(self) -> str:
        """Of all tokens, or of the sums of shards: tells a resumed run whether its text changed."""
        if self.checksum:
            return self.checksum
        digest = hashlib.sha256()
        for split in (self.train, self.validation):
            for start in range(0, len(split.tokens), SCAN):
                digest.update(split.tokens[start : start + SCAN].tobytes())
            digest.update(b"|")
        return digest.hexdigest()

    def windows(self, context_length: int, seed: int) -> "WindowOrder":
        """What is read in training, in the order in which it is read.

        Raises ValueError where there is less text than a window.
        """
        stops = [start + 1 for start in self.train.starts[1:]] + [len(self.train.tokens)]
        orders: list[WindowOrder] = []
        for k, (start, stop) in enumerate(zip(self.train.starts, stops, strict=True)):
            tokens = self.train.tokens if len(stops) == 1 else part(self.train.tokens, start, stop)
            if self.in_shards:
                orders.append(FullWindows(tokens, context_length, seed + k))
            else:
                split, end = Split(tokens, self.train.n_bytes), self.tokenizer.end_of_text
                orders.append(Windows(split, context_length, seed + k, end))
        return MixedWindows(orders, self.mix) if self.mix else orders[0]


def part(tokens: np.ndarray | Stream, start: int, stop: int) -> np.ndarray | Stream:
    """A stretch of a stream, without a copy."""
    return tokens.part(start, stop) if isinstance(tokens, Stream) else tokens[start:stop]


def load_corpus(config: DataConfig, report: Report | None = None) -> Corpus:
    """The token files of a text, made where config.cache_dir does not have them yet.

    Raises FileNotFoundError for a missing path or vocabulary; ValueError for a text that is
    empty, too short to be split or no UTF-8, and for shards that do not belong together; OSError
    where the files cannot be written.
    """
    if any(map(is_prepared, config.path)):
        return open_prepared(config)
    source = open_source(config)
    ready = [] if config.tokenizer in ("bpe", "char") else vocabulary_files(config.tokenizer)
    vocabulary = [config.tokenizer, config.vocab_size or VOCAB_SIZE, *map(stamp, ready)]
    made_from = json.dumps([FORMAT, source.identity, vocabulary])
    key = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    cache = Path(config.cache_dir).expanduser()
    if not (cache / key / META_FILE).is_file():
        try:
            make(cache, key, source, config, report or (lambda done, total, what: None))
        except OSError as error:
            error.filename = error.filename or str(cache)  # a full disk does not say which
            raise
    meta = json.loads((cache / key / META_FILE).read_text(encoding="utf-8"))
    train, validation = (
        Split(np.memmap(cache / key / f"{split}.bin", meta["dtype"], "r"), meta["n_bytes"][split])
        for split in SPLITS
    )
    tokenizer, floor = Tokenizer.load(cache / key), meta["floor_bits_per_byte"]
    if config.mix:
        train = replace(train, starts=source.starts(train.tokens, tokenizer.end_of_text))
    return Corpus(tokenizer, train, validation, floor, config.mix)


def open_prepared(config: DataConfig) -> Corpus:
    """The shards of one or several folders, as if they were one text."""
    as_default = DataConfig(path=config.path, mix=config.mix, cache_dir=config.cache_dir)
    require(
        config == as_default,
        f"--data.path {config.path[0]} is prepared: its tokenizer and its validation text are "
        "chosen; leave out the other --data settings but --data.mix",
    )
    found: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    n_bytes = dict.fromkeys(SPLITS, 0)
    starts, tokenizers, checksums = [], [], hashlib.sha256()
    for path in config.path:
        require(is_prepared(path), f"{path} is not prepared and {config.path[0]} is; "
                f"prepare it with --data.tokenizer of the other")  # fmt: skip
        folder = Path(path).expanduser()
        index, shards = open_shards(folder)
        starts.append(max(0, sum(map(len, found["train"])) - 1))
        tokenizers.append(index.tokenizer_sha256)
        require(
            tokenizers[-1] == tokenizers[0],
            f"{path} has another tokenizer than {config.path[0]}; prepare it with "
            f"--data.tokenizer {config.path[0]}",
        )
        for split in SPLITS:
            first, *others = shards[split]
            found[split] += [first[1:] if found[split] else first, *others]  # one border between
            n_bytes[split] += index.n_bytes(split)
            for shard in index.shards(split):
                checksums.update(shard.sha256.encode())
    train, validation = (Split(Stream(found[split]), n_bytes[split]) for split in SPLITS)
    if config.mix:
        train = replace(train, starts=tuple(starts))
    tokenizer = Tokenizer.load(Path(config.path[0]).expanduser())
    return Corpus(
        tokenizer, train, validation, None, config.mix,
        in_shards=True, checksum=checksums.hexdigest(),
    )  # fmt: skip


def make(cache: Path, key: str, source: "Source", config: DataConfig, report: Report) -> None:
    """Writes all files of a corpus aside and then renames their folder to cache/key."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=cache) as aside:
        folder = Path(aside, key)
        folder.mkdir()
        tokenizer = make_tokenizer(source, config, report)
        tokenizer.save(folder)
        dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
        n_bytes = {}
        for split in SPLITS:
            file = folder / f"{split}.bin"
            n_bytes[split] = write_tokens(file, dtype, source, split, tokenizer, report)
        meta = {"dtype": dtype.name, "n_bytes": n_bytes, "floor_bits_per_byte": source.floor()}
        text = json.dumps({**meta, "source": source.identity}, ensure_ascii=False, indent=2)
        (folder / META_FILE).write_text(text + "\n", encoding="utf-8")
        try:
            folder.rename(cache / key)
        except OSError:  # a run beside this one was faster and has made the same files
            if not (cache / key / META_FILE).is_file():
                raise


def make_tokenizer(source: "Source", config: DataConfig, report: Report) -> Tokenizer:
    """The tokenizer that the settings ask for.

    bpe learns from the training split only, from at most 32 MB spread evenly over it. char takes
    the characters of both splits: an alphabet tells nothing about the validation text.
    """
    if config.tokenizer not in ("bpe", "char"):
        return Tokenizer.from_gpt2(config.tokenizer)
    if config.tokenizer == "bpe":
        pieces, total = source.sample(), min(SAMPLE, source.n_bytes("train"))
        batched = batches(pieces, total, "training the tokenizer", report)
        texts = (piece.text for batch in batched for piece in batch)
        return Tokenizer.train(texts, config.vocab_size or VOCAB_SIZE)
    pieces, total = chain(*map(source.pieces, SPLITS)), sum(map(source.n_bytes, SPLITS))
    batched = batches(pieces, total, "collecting the characters", report)
    return Tokenizer.characters(piece.text for batch in batched for piece in batch)


def write_tokens(
    file: Path, dtype: np.dtype, source: "Source", split: str, tokenizer: Tokenizer, report: Report
) -> int:
    """Writes the tokens of a split; returns how many UTF-8 bytes its text has."""
    border = np.array([tokenizer.end_of_text], dtype).tobytes()
    total, what = source.n_bytes(split), f"tokenizing the {split} text"
    n_bytes = 0
    with file.open("wb") as out:
        for batch in batches(source.pieces(split), total, what, report):
            try:
                encoded = tokenizer.encode_batch([piece.text for piece in batch])
            except UnseenCharacter as error:
                piece = next(piece for piece in batch if piece.text is error.text)
                raise error.within(piece.start, f"the {split} text of {piece.document}") from None
            for piece, ids in zip(batch, encoded, strict=True):
                out.write((b"" if piece.start else border) + np.array(ids, dtype).tobytes())
                n_bytes += len(piece.text.encode())
        out.write(border)
    wrong = f"the {split} split is empty; give more text, or another --data.validation-share"
    require(n_bytes > 0, wrong)
    return n_bytes


# Where text comes from ----------------------------------------------------------------------


class Piece(NamedTuple):
    """A stretch of a document; a document begins with its piece that starts at 0."""

    document: str
    start: int  # in characters
    text: str


class World:
    """A built-in world: every story is a document, and the floor is known."""

    def __init__(self, name: str, config: DataConfig) -> None:
        self.language = LANGUAGES[name]
        self.n_train = config.stories or 40_000
        most = None if config.validation_share else 1000  # enough for the floor, and soon read
        n_validation = round(self.n_train * (config.validation_share or 0.05))
        self.n_validation = max(1, min(n_validation, most or n_validation))
        code = [file.read_bytes() for file in sorted(WORLD.glob("*.py"))]
        made_by = hashlib.sha256(b"".join(code)).hexdigest()
        self.identity = [name, self.n_train, self.n_validation, made_by]

    def n_bytes(self, split: str) -> int:
        """Estimated from a hundred stories, for the progress bar."""
        n_bytes = sum(len(story.text.encode()) for story in corpus(self.language, 0, 100)[1])
        return n_bytes * (self.n_train if split == "train" else self.n_validation) // 100

    def pieces(self, split: str) -> Iterator[Piece]:
        """The stories of a split."""
        train, validation = corpus(self.language, self.n_train, self.n_validation)
        for number, story in enumerate(train if split == "train" else validation):
            yield Piece(f"story {number}", 0, story.text)

    def sample(self) -> Iterator[Piece]:
        """The first stories of the training split."""
        return islice(self.pieces("train"), SAMPLE_STORIES)

    def floor(self) -> float | None:
        """Bits per byte of the validation stories under the world's own probabilities."""
        return floor_bits_per_byte(corpus(self.language, 0, self.n_validation)[1])

    def starts(self, tokens: np.ndarray | Stream, end_of_text: int) -> tuple[int, ...]:
        """A world stands alone."""
        return (0,)


class Texts:
    """The user's files: each is a document."""

    def __init__(self, config: DataConfig) -> None:
        files = sizes(config.path)
        share = config.validation_share or min(0.1, MOST_VALIDATION / sum(files.values()))
        groups = by_path(config.path, files) if config.mix else [files]
        splits = [split_files(group, share) for group in groups]
        self.spans = {name: [span for split in splits for span in split[name]] for name in SPLITS}
        self.n_documents = [len(split["train"]) for split in splits]  # of each path, with a mix
        self.identity = [share, *map(stamp, files), *(self.n_documents if config.mix else [])]

    def n_bytes(self, split: str) -> int:
        """The size of the files, or parts of files, of a split."""
        return sum(span.stop - span.start for span in self.spans[split])

    def pieces(self, split: str) -> Iterator[Piece]:
        """The text of a split, document by document."""
        for span in self.spans[split]:
            start = 0
            for text in read_span(span):
                yield Piece(str(span.path), start, text)
                start += len(text)

    def sample(self) -> Iterator[Piece]:
        """At most SAMPLE bytes of the training split, evenly spread over it."""
        share = min(1.0, SAMPLE / max(1, self.n_bytes("train")))
        seen = kept = 0
        for piece in self.pieces("train"):
            seen += len(piece.text)
            if kept + len(piece.text) <= seen * share:
                kept += len(piece.text)
                yield piece

    def floor(self) -> float | None:
        """Nobody knows it for a text that people wrote."""
        return None

    def starts(self, tokens: np.ndarray | Stream, end_of_text: int) -> tuple[int, ...]:
        """Where the text of each path begins in the stream of the training split."""
        borders = find_borders(tokens, end_of_text)
        require(
            len(borders) == sum(self.n_documents) + 1,
            "a file holds nothing but a byte order mark; leave it out to use --data.mix",
        )
        firsts = accumulate(self.n_documents[:-1], initial=0)
        return tuple(int(borders[first]) for first in firsts)


Source = World | Texts


def by_path(paths: Sequence[str], files: dict[Path, int]) -> list[dict[Path, int]]:
    """The files of each path on its own, without those that a path before it has."""
    groups: list[dict[Path, int]] = []
    left = dict(files)
    for path in paths:
        groups.append({file: left.pop(file) for file in sizes([path]) if file in left})
        wrong = f"all files of {path} are in the paths before it; --data.mix needs a text for each"
        require(len(groups[-1]) > 0, wrong)
    return groups


def open_source(config: DataConfig) -> Source:
    """What config.path names. A built-in world goes before a file of the same name."""
    worlds = [path for path in config.path if path in LANGUAGES]
    if not worlds:
        wrong = f"--data.stories {config.stories} is for {' and '.join(LANGUAGES)}; leave it out"
        require(config.stories is None, f"{wrong}, {config.path[0]} is read whole")
        return Texts(config)
    wrong = f"--data.path {worlds[0]} stands alone, for its floor holds for nothing else; "
    require(len(config.path) == 1, f"{wrong}write ./{worlds[0]} for a file of that name")
    require(not config.mix, f"--data.mix is for several texts; leave it out with {worlds[0]}")
    return World(worlds[0], config)


def batches(
    pieces: Iterable[Piece], total: int, what: str, report: Report
) -> Iterator[list[Piece]]:
    """Pieces of about BATCH characters together, while report is told how far they have come."""
    done = size = 0
    batch: list[Piece] = []
    report(0, total, what)
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        done += len(piece.text.encode())
        if size >= BATCH:
            yield batch
            report(min(done, total), total, what)
            batch, size = [], 0
    yield batch
    report(total, total, what)


# From token files to batches ----------------------------------------------------------------


class WindowOrder(ABC):
    """Windows in an endless order, in which a position is one number: to resume is to remember it.

    Which window a number has depends on the text and the seed alone. So ranks that take
    first + rank, first + rank + n_ranks, ... read together what one process reads.
    """

    context_length: int
    end_of_text: int  # stands in the padding

    @abstractmethod
    def stretch(self, number: int) -> np.ndarray:
        """The tokens of a window, its last target included: at most context_length + 1."""

    @abstractmethod
    def passes(self, n_windows: int) -> list[float]:
        """How often the first n_windows go through the text, or through each of several."""

    def batch(self, first: int, count: int, step: int = 1) -> tuple[Tensor, Tensor]:
        """`count` windows, number first, first + step, ...: tokens and targets, (B, T) int64."""
        numbers = range(first, first + count * step, step)
        return stacked(list(map(self.stretch, numbers)), self.context_length, self.end_of_text)


class Windows(WindowOrder):
    """Windows that begin where documents begin, of a text that can be looked through.

    Epoch e cuts the stream anew, from a random phase, and reads each window once, in random
    order but for a sorting of each 64 neighbours by length. All of it is a pure function of the
    seed and e.
    """

    def __init__(self, split: Split, context_length: int, seed: int, end_of_text: int) -> None:
        n_tokens = len(split.tokens)
        require_a_window(n_tokens, context_length)
        self.tokens, self.context_length, self.seed = split.tokens, context_length, seed
        self.end_of_text = end_of_text
        self.borders = find_borders(split.tokens, end_of_text)
        self.spare = (n_tokens - 1) % context_length
        self._enter(epoch=0, first=0)

    def _enter(self, epoch: int, first: int) -> None:
        """Lays out the windows of an epoch, whose numbers begin at `first`."""
        words = np.random.SeedSequence((self.seed % 2**64, epoch)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(words[0]))
        phase = int(torch.randint(self.spare + 1, (), generator=generator))
        spans = cut(self.borders, phase, len(self.tokens), self.context_length)
        in_order = np.fromiter(spans, dtype=(np.int64, 2))  # tuples would take 10 times the memory
        shuffled = in_order[torch.randperm(len(in_order), generator=generator).numpy()]
        lengths = shuffled[:, 1] - shuffled[:, 0]
        self.epoch, self.first = epoch, first
        # neighbours of similar length: on tiny-world 9% of a batch is padding, instead of 22%
        self.spans = shuffled[np.lexsort((lengths, np.arange(len(lengths)) // NEIGHBOURS))]

    def stretch(self, number: int) -> np.ndarray:
        start, stop = self.span(number)
        return self.tokens[start : stop + 1]

    def passes(self, n_windows: int) -> list[float]:
        return [n_windows / len(self.spans)]

    def span(self, number: int) -> tuple[int, int]:
        """Where in the stream a window begins and ends."""
        if number < self.first:
            self._enter(epoch=0, first=0)
        while number >= self.first + len(self.spans):
            self._enter(self.epoch + 1, self.first + len(self.spans))
        start, stop = self.spans[number - self.first].tolist()
        return start, stop


class FullWindows(WindowOrder):
    """Windows of context_length tokens, end to end, of a stream of any length.

    Epoch e begins at a random phase and reads each window once. The order is computed, not
    stored: whatever the length of the stream, any window is found at once.
    """

    def __init__(self, tokens: np.ndarray | Stream, context_length: int, seed: int) -> None:
        require_a_window(len(tokens), context_length)
        self.tokens, self.context_length, self.seed = tokens, context_length, seed
        self.end_of_text = 0  # no window needs padding
        self.n_windows, self.spare = divmod(len(tokens) - 1, context_length)
        self._enter(epoch=0)

    def _enter(self, epoch: int) -> None:
        self.epoch = epoch
        self.order = Permutation(self.n_windows, self.seed, epoch)
        self.phase = Permutation(self.spare + 1, self.seed, epoch)[0]

    def stretch(self, number: int) -> np.ndarray:
        epoch, place = divmod(number, self.n_windows)
        if epoch != self.epoch:
            self._enter(epoch)
        start = self.phase + self.order[place] * self.context_length
        return self.tokens[start : start + self.context_length + 1]

    def passes(self, n_windows: int) -> list[float]:
        return [n_windows / self.n_windows]


class MixedWindows(WindowOrder):
    """Several texts, each in an order of its own, dealt out by weight."""

    def __init__(self, orders: list[WindowOrder], weights: Sequence[float]) -> None:
        self.orders, self.shares = orders, Shares(weights)
        self.context_length, self.end_of_text = orders[0].context_length, orders[0].end_of_text

    def stretch(self, number: int) -> np.ndarray:
        source, place = self.shares.source(number)
        return self.orders[source].stretch(place)

    def passes(self, n_windows: int) -> list[float]:
        counts = self.shares.counts(n_windows)
        pairs = zip(self.orders, counts, strict=True)
        return [passes for order, count in pairs for passes in order.passes(count)]


def require_a_window(n_tokens: int, context_length: int) -> None:
    """Raises ValueError where a text has less than a window and its last target."""
    require(
        n_tokens > context_length,
        f"the training text has {n_tokens} tokens, but a window of --model.context-length "
        f"{context_length} needs {context_length + 1}; give more text, or try "
        f"--model.context-length {max(1, n_tokens - 1)}",
    )


def evaluation_batches(
    split: Split, context_length: int, batch_size: int, end_of_text: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows that have every target of a split exactly once: (B, T), (B, T) int64.

    Neighbours are sorted by length, as in training.
    """
    borders = find_borders(split.tokens, end_of_text)
    spans = cut(borders, 0, len(split.tokens), context_length)
    while group := list(islice(spans, NEIGHBOURS * batch_size)):
        group.sort(key=lambda span: span[1] - span[0])
        for first in range(0, len(group), batch_size):
            rows = group[first : first + batch_size]
            yield padded(split.tokens, rows, context_length, end_of_text)


def cut(
    borders: np.ndarray, start: int, n_tokens: int, context_length: int
) -> Iterator[tuple[int, int]]:
    """Windows, each from the token that is read first to the target that comes last.

    A window ends at the last document border that it can reach: a document that fits is read
    whole, from its start. Were it cut, the model would pay for a past that it cannot see, and
    would look for it in its neighbour. One long text has no borders inside and gives full
    windows, end to end.
    """
    last = n_tokens - 1
    while start < last:
        stop = min(start + context_length, last)
        n_reached = int(np.searchsorted(borders, stop, side="right"))
        if n_reached and borders[n_reached - 1] > start:
            stop = int(borders[n_reached - 1])
        yield start, stop
        start = stop


def padded(
    stream: np.ndarray | Stream, spans: list[tuple[int, int]], context_length: int, end_of_text: int
) -> tuple[Tensor, Tensor]:
    """Windows of a stream as tokens and targets, (B, T) int64."""
    return stacked([stream[a : b + 1] for a, b in spans], context_length, end_of_text)


def stacked(
    stretches: list[np.ndarray], context_length: int, end_of_text: int
) -> tuple[Tensor, Tensor]:
    """Windows as tokens and targets, (B, T) int64; beyond a window targets are IGNORE_INDEX.

    T is the longest one's length, rounded up: kernels are prepared anew for every other shape.
    """
    longest = max(map(len, stretches)) - 1
    width = min(context_length, -(-longest // ROUNDING) * ROUNDING)
    tokens = torch.full((len(stretches), width), end_of_text)
    targets = torch.full((len(stretches), width), IGNORE_INDEX)
    for row, stretch in enumerate(stretches):
        window = torch.from_numpy(stretch.astype(np.int64))
        tokens[row, : len(window) - 1] = window[:-1]
        targets[row, : len(window) - 1] = window[1:]
    return tokens, targets


def find_borders(tokens: np.ndarray | Stream, end_of_text: int) -> np.ndarray:
    """Where the end-of-text tokens of a stream stand; looked for part by part."""
    parts = range(0, len(tokens), SCAN)
    found = [part + np.flatnonzero(tokens[part : part + SCAN] == end_of_text) for part in parts]
    return np.concatenate(found)
