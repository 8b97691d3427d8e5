"""The data: text becomes files of tokens, and token files become batches.

    <|endoftext|> document <|endoftext|> document ... <|endoftext|>      one stream a split
    tokens  = stream[s     : s + T]
    targets = stream[s + 1 : s + T + 1]                                  one window

The stream stands in a file of 16-bit numbers that is mapped into memory, never read whole, as in
nanoGPT. It is made once and found again by a hash of everything that it was made from.
Read before: tokenizer.py.  Read next: generation.py.
"""

import codecs
import glob
import hashlib
import io
import json
import random
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cfg_gpt2 import DataConfig, require
from data.tiny_world import LANGUAGES, corpus, floor_bits_per_byte
from loss import IGNORE_INDEX
from tokenizer import Tokenizer, UnseenCharacter, vocabulary_files

Report = Callable[[int, int, str], None]  # (bytes done, bytes in all, what is being done)

FORMAT = 1  # of the token files; raised when the same text would give other files
META_FILE = "meta.json"
SPLITS = ("train", "validation")
SUFFIXES = (".txt", ".md")
VOCAB_SIZE = 2048  # of a trained bpe, where no other is asked for
NEIGHBOURS = 64  # windows that are sorted by length
ROUNDING = 16  # of the length of windows in a batch
PIECE = 1 << 16  # bytes of a file that are decoded, and then encoded, at a time
BATCH = 1 << 21  # characters encoded at a time, on all cores
LONGEST_WORD = 1 << 20  # characters; a longer one is cut, to bound memory
SAMPLE = 32_000_000  # bytes of training text that bpe learns its merges from
SAMPLE_STORIES = 4_000  # the same for a built-in world, where the first stories are a fair sample
SCAN = 1 << 24  # tokens searched for document borders at a time
MANY = 20  # files; from here on whole files are kept for validation


@dataclass(frozen=True)
class Split:
    """The tokens of one split and the size of its text."""

    tokens: np.ndarray  # uint16 or uint32, mapped from a file
    n_bytes: int  # UTF-8 bytes of the text; end-of-text tokens stand for none


@dataclass(frozen=True)
class Corpus:
    """A text, ready to be learned."""

    tokenizer: Tokenizer
    train: Split
    validation: Split
    floor_bits_per_byte: float | None  # what no model can beat; known for the built-in worlds


def load_corpus(config: DataConfig, report: Report | None = None) -> Corpus:
    """The token files of a text, made where config.cache_dir does not have them yet.

    Raises FileNotFoundError for a missing path or vocabulary; ValueError for a text that is
    empty, too short to be split or no UTF-8; OSError where the files cannot be written.
    """
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
    return Corpus(Tokenizer.load(cache / key), train, validation, meta["floor_bits_per_byte"])


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
        code = [file.read_bytes() for file in sorted(Path(__file__).with_name("data").glob("*.py"))]
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


class Span(NamedTuple):
    """The part of a file, in bytes, that belongs to a split."""

    path: Path
    start: int
    stop: int


class Texts:
    """The user's files: each is a document."""

    def __init__(self, config: DataConfig) -> None:
        files = sizes(config.path)
        share = config.validation_share or 0.1
        self.spans = split_files(files, share)
        self.identity = [share, *map(stamp, files)]

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


Source = World | Texts


def open_source(config: DataConfig) -> Source:
    """What config.path names. A built-in world goes before a file of the same name."""
    worlds = [path for path in config.path if path in LANGUAGES]
    if not worlds:
        wrong = f"--data.stories {config.stories} is for {' and '.join(LANGUAGES)}; leave it out"
        require(config.stories is None, f"{wrong}, {config.path[0]} is read whole")
        return Texts(config)
    wrong = f"--data.path {worlds[0]} stands alone, for its floor holds for nothing else; "
    require(len(config.path) == 1, f"{wrong}write ./{worlds[0]} for a file of that name")
    return World(worlds[0], config)


def expand(path: str) -> list[Path]:
    """The files that a path of the command line names: a file, a glob's, or those in a folder.

    A folder means its .txt and .md files at any depth, without hidden ones.
    """
    named = Path(path).expanduser()
    if named.is_file():
        return [named]
    if named.is_dir():
        files = [file for file in sorted(named.rglob("*")) if file.suffix.lower() in SUFFIXES]
        inside = {file: "/" + file.relative_to(named).as_posix() for file in files}
        files = [file for file in files if file.is_file() and "/." not in inside[file]]
        if not files:
            kinds = " or ".join(f"*{suffix}" for suffix in SUFFIXES)
            raise FileNotFoundError(f"{path} has no {kinds} at any depth; name files or a glob")
        return files
    matches = sorted(glob.glob(str(named), recursive=True))
    if not matches:
        known = ", ".join(LANGUAGES)
        raise FileNotFoundError(f"{path} does not exist; name text files, folders, globs, {known}")
    return [file for match in matches for file in expand(match)]


def sizes(paths: Iterable[str]) -> dict[Path, int]:
    """The files that the paths name, each once, and how many bytes each has. None is empty."""
    named = [file.resolve() for path in paths for file in expand(path)]
    files = {file: file.stat().st_size for file in named}
    for file, size in files.items():
        require(size > 0, f"{file} is empty; give it some text, or leave it out")
    return files


def stamp(file: Path) -> list:
    """What changes when a file does."""
    status = file.stat()
    return [str(file.resolve()), status.st_size, status.st_mtime_ns]


def split_files(files: dict[Path, int], share: float) -> dict[str, list[Span]]:
    """Both splits of files with sizes. Many: some whole ones, at random. Few: the end of each."""
    if len(files) < MANY:
        cuts = {file: character_at(file, int(size * (1 - share))) for file, size in files.items()}
    else:
        cuts = dict(files)  # all of a file is for training, or nothing
        wanted = share * sum(files.values())
        for file in random.Random(0).sample(list(files), len(files) - 1):  # one stays, always
            if wanted > 0:
                wanted -= files[file]
                cuts[file] = 0
    return {
        "train": [Span(file, 0, cut) for file, cut in cuts.items() if cut > 0],
        "validation": [Span(file, cuts[file], size) for file, size in files.items()
                       if cuts[file] < size],
    }  # fmt: skip


def character_at(file: Path, offset: int) -> int:
    """The first offset from here on at which a character begins."""
    with file.open("rb") as text:
        text.seek(offset)
        rest = text.read(3)
    return offset + len(rest) - len(rest.lstrip(bytes(range(0x80, 0xC0))))


def read_span(span: Span) -> Iterator[str]:
    """The text of a span in pieces of about PIECE bytes, without BOM, line ends as newlines.

    Encoding the pieces gives the tokens of the whole. They end after a character that is not
    white space and before a space or newline, and GPT-2's pattern makes no word across that
    border: a word may begin with white space, but after anything else it has none.
    """
    encoding = "utf-8" if span.start else "utf-8-sig"
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), True)
    held, here = "", span.start
    with span.path.open("rb") as file:
        file.seek(here)
        while here < span.stop:
            data = file.read(min(PIECE, span.stop - here))
            require(len(data) > 0, f"{span.path} has become shorter; start again")
            if b"\0" in data:
                raise not_utf8(span.path, here + data.index(b"\0"))
            here += len(data)
            try:
                held += decoder.decode(data, final=here == span.stop)
            except UnicodeDecodeError as error:
                raise not_utf8(span.path, here - len(error.object) + error.start) from None
            cut = len(held) if here == span.stop else word_border(held)
            if cut:
                yield held[:cut]
                held = held[cut:]


_UP_TO_LAST_WORD = re.compile(r".*\S(?=[ \n])", re.DOTALL)


def word_border(text: str) -> int:
    """The last place after something else and before white space; 0 where there is none."""
    if found := _UP_TO_LAST_WORD.match(text):
        return found.end()
    return len(text) if len(text) > LONGEST_WORD else 0


def not_utf8(path: Path, offset: int) -> ValueError:
    """Says where a file is no UTF-8 text, and what it may be."""
    with path.open("rb") as file:
        head = file.read(2)
        file.seek(offset)
        byte = file.read(1)
    utf16 = byte == b"\0" or head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    likely = "UTF-16" if utf16 else "CP1251"
    return ValueError(
        f"{path} is not UTF-8 text: byte 0x{byte.hex()} at offset {offset}; if it is {likely}, "
        f"convert it with iconv -f {likely} -t UTF-8 {path.name} > utf8.txt"
    )


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


class Windows:
    """The windows of a split in an endless random order, in which a position is one number.

    Epoch e cuts the stream anew, from a random phase, and reads each window once, in random
    order but for a sorting of each 64 neighbours by length. All of it is a pure function of the
    seed and e. To resume is to remember a number.
    """

    def __init__(self, split: Split, context_length: int, seed: int, end_of_text: int) -> None:
        n_tokens = len(split.tokens)
        require(
            n_tokens > context_length,
            f"the training text has {n_tokens} tokens, but a window of --model.context-length "
            f"{context_length} needs {context_length + 1}; give more text, or try "
            f"--model.context-length {max(1, n_tokens - 1)}",
        )
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

    def batch(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Windows number first, first + 1, ...: tokens and targets, (count, T) each, int64."""
        spans = [self.span(number) for number in range(first, first + count)]
        return padded(self.tokens, spans, self.context_length, self.end_of_text)

    def span(self, number: int) -> tuple[int, int]:
        """Where in the stream a window begins and ends."""
        if number < self.first:
            self._enter(epoch=0, first=0)
        while number >= self.first + len(self.spans):
            self._enter(self.epoch + 1, self.first + len(self.spans))
        start, stop = self.spans[number - self.first].tolist()
        return start, stop


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
    stream: np.ndarray, spans: list[tuple[int, int]], context_length: int, end_of_text: int
) -> tuple[Tensor, Tensor]:
    """Windows as tokens and targets, (B, T) int64; beyond a window targets are IGNORE_INDEX.

    T is the longest one's length, rounded up: kernels are prepared anew for every other shape.
    """
    longest = max(stop - start for start, stop in spans)
    width = min(context_length, -(-longest // ROUNDING) * ROUNDING)
    tokens = torch.full((len(spans), width), end_of_text)
    targets = torch.full((len(spans), width), IGNORE_INDEX)
    for row, (start, stop) in enumerate(spans):
        stretch = torch.from_numpy(stream[start : stop + 1].astype(np.int64))
        tokens[row, : stop - start] = stretch[:-1]
        targets[row, : stop - start] = stretch[1:]
    return tokens, targets


def find_borders(tokens: np.ndarray, end_of_text: int) -> np.ndarray:
    """Where the end-of-text tokens of a stream stand; looked for part by part."""
    parts = range(0, len(tokens), SCAN)
    found = [part + np.flatnonzero(tokens[part : part + SCAN] == end_of_text) for part in parts]
    return np.concatenate(found)
