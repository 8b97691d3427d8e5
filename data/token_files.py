"""Token files: the streams of a corpus on disk, made once and used by every later run.

    cache_dir/<key>/train.bin         the training stream, 16 or 32 bits per token
                    validation.bin
                    tokenizer.json
                    meta.json         type of the numbers, bytes of text, entropy, source

The key is a hash of everything that decides the tokens: the format, the identity of the text, and
the vocabulary. Another text or setting gives another folder.
Previous: sources.py.  Next: shards.py.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from cfg_gpt2 import DataConfig, require
from data import SPLITS
from data.sources import SAMPLE_BYTES, ChunkedText, TextChunk, TextSource
from data.stream import token_dtype
from data.text_files import fingerprint
from run_directory.json_file import read_json_as
from run_directory.lock import BeingWritten, in_turn, only_writer_of
from run_directory.vocabulary import end_tokens, vocabulary_files
from tokenizer import END_OF_TEXT, Tokenizer, UnseenCharacter

# (bytes done, bytes in all, what is being done); 0 bytes in all where the end is unknown
Report = Callable[[int, int, str], None]

FORMAT = 1  # of the token files; raised when the same text would give other files
META_FILE = "meta.json"
KEY = r"[0-9a-f]{16}"  # the name of a cache folder
VOCAB_SIZE = 2048  # of a trained BPE, where no other is asked for
BATCH_CHARACTERS = 1 << 21  # characters that are encoded at a time, on all cores


@dataclass(frozen=True, kw_only=True)
class TokenFiles:
    """The contents of meta.json."""

    dtype: Literal["uint16", "uint32"]
    n_bytes: dict[str, int]  # UTF-8 bytes of each split's text
    floor_bits_per_byte: float | None
    source: list  # the identity of the text, for people

    def __post_init__(self) -> None:
        floor = self.floor_bits_per_byte
        possible = all(self.n_bytes.get(split, 0) > 0 for split in SPLITS)
        require(possible and (floor is None or 0 < floor < 8), "it has numbers that cannot be")


def read_meta(folder: Path) -> TokenFiles:
    """Returns the meta.json of a folder of the cache. Raises ValueError where it is damaged."""
    try:
        return read_json_as(TokenFiles, folder / META_FILE)
    except ValueError as error:
        raise ValueError(f"{error}; remove {folder}, and its files are made again") from None


def cache_key(config: DataConfig, source: TextSource) -> str:
    """Returns the name of the cache folder: 16 hexadecimal digits.

    Raises FileNotFoundError where config.tokenizer names a folder without a vocabulary.
    """
    vocabulary = vocabulary_identity(config.tokenizer, config.vocab_size)
    contents = json.dumps([FORMAT, source.identity, vocabulary])
    return hashlib.sha256(contents.encode()).hexdigest()[:16]


def vocabulary_identity(tokenizer: str, vocab_size: int | None) -> list:
    """Returns what changes when the tokenizer of these --data settings does.

    Raises FileNotFoundError where `tokenizer` names a folder without a vocabulary.
    """
    files = [] if tokenizer in ("bpe", "char") else vocabulary_files(tokenizer)
    ends = end_tokens(files[0].parent) if files else []
    named = [end for end in ends if end != END_OF_TEXT]
    return [tokenizer, vocab_size or VOCAB_SIZE, *map(fingerprint, files), *named]


def make_token_files(
    folder: Path,
    source: TextSource,
    config: DataConfig,
    report: Report | None = None,
    *,
    batch_characters: int = BATCH_CHARACTERS,
) -> None:
    """Makes the token files of a source in a temporary folder and renames it to `folder`.

    Of several processes that want the same files one makes them, and the others wait.

    Raises ValueError for an empty split, for text that is not UTF-8 and for a character that the
    vocabulary lacks; OSError, with a filename, where the files cannot be written.
    """
    report = report or (lambda done, total, what: None)
    cache = folder.parent

    def waiting(process: str) -> None:
        report(0, 0, f"waiting for {process}, which makes the same tokens")

    try:
        cache.mkdir(parents=True, exist_ok=True)
        with in_turn(folder, waiting) as locked:
            if (folder / META_FILE).is_file():
                return
            if locked:
                remove_unfinished(cache, folder.name)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=cache) as temporary:
                made = Path(temporary, folder.name)
                made.mkdir()
                write_token_files(made, source, config, report, batch_characters)
                try:
                    made.rename(folder)
                except OSError:  # without locks a run beside this one can be the first
                    if not (folder / META_FILE).is_file():
                        raise
    except OSError as error:
        error.filename = error.filename or str(cache)  # OSError from a full disk has no filename
        raise


def remove_unfinished(cache: Path, key: str) -> None:
    """Removes the temporary folders of killed processes: those of `key`, whose lock is held, and
    those of every key that nobody makes.
    """
    for folder in cache.glob(".*-*"):
        other = folder.name[1:].partition("-")[0]
        if not re.fullmatch(KEY, other) or not folder.is_dir():
            continue
        if other == key:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with suppress(BeingWritten), only_writer_of(cache / other, "", lambda line: None) as locked:
            if locked:
                shutil.rmtree(folder, ignore_errors=True)


def write_token_files(
    folder: Path, source: TextSource, config: DataConfig, report: Report, batch_characters: int
) -> None:
    """Writes tokenizer.json, the stream of each split, and meta.json into a folder."""
    tokenizer = make_tokenizer(source, config, report, batch_characters)
    tokenizer.save(folder)
    dtype = token_dtype(tokenizer.vocab_size)
    n_bytes = {}
    for split in SPLITS:
        with (folder / f"{split}.bin").open("wb") as out:
            n_bytes[split] = write_tokens(
                out, dtype, source, split, tokenizer, report, batch_characters
            )
    meta = {"dtype": dtype.name, "n_bytes": n_bytes, "floor_bits_per_byte": source.floor()}
    text = json.dumps({**meta, "source": source.identity}, ensure_ascii=False, indent=2)
    (folder / META_FILE).write_text(text + "\n", encoding="utf-8")


def make_tokenizer(
    source: TextSource,
    config: DataConfig,
    report: Report,
    batch_characters: int = BATCH_CHARACTERS,
) -> Tokenizer:
    """Returns the tokenizer that the settings ask for.

    BPE learns from the training split only, from at most 32 MB spread evenly over it. A tokenizer
    of characters takes those of both splits: an alphabet tells nothing about the validation text.
    """
    if config.tokenizer not in ("bpe", "char"):
        return Tokenizer.from_gpt2(config.tokenizer)
    if config.tokenizer == "bpe":
        chunks, total = source.sample(), min(SAMPLE_BYTES, source.n_bytes("train"))
        batches = in_batches(chunks, total, "training the tokenizer", report, batch_characters)
        texts = (chunk.text for batch in batches for chunk in batch)
        learning = partial(report, 0, 0, "learning the tokens")
        return Tokenizer.train(texts, config.vocab_size or VOCAB_SIZE, learning)
    chunks, total = chain(*map(source.chunks, SPLITS)), sum(map(source.n_bytes, SPLITS))
    batches = in_batches(chunks, total, "collecting the characters", report, batch_characters)
    return Tokenizer.characters(chunk.text for batch in batches for chunk in batch)


def write_tokens(
    out: BinaryIO,
    dtype: np.dtype,
    source: ChunkedText,
    split: str,
    tokenizer: Tokenizer,
    report: Report,
    batch_characters: int = BATCH_CHARACTERS,
) -> int:
    """Writes the stream of a split into a file; returns the number of UTF-8 bytes of its text.

    Raises ValueError for an empty split, and UnseenCharacter, with the position in the document,
    for a character that the tokenizer does not have.
    """
    boundary = np.array([tokenizer.end_of_text], dtype).tobytes()
    total, what = source.n_bytes(split), f"tokenizing the {split} text"
    n_bytes = 0
    for batch in in_batches(source.chunks(split), total, what, report, batch_characters):
        try:
            encoded = tokenizer.encode_batch([chunk.text for chunk in batch])
        except UnseenCharacter as error:
            chunk = next(chunk for chunk in batch if chunk.text is error.text)
            raise error.within(chunk.start, f"the {split} text of {chunk.document}") from None
        for chunk, ids in zip(batch, encoded, strict=True):
            out.write((b"" if chunk.start else boundary) + np.array(ids, dtype).tobytes())
            n_bytes += len(chunk.text.encode())
    out.write(boundary)
    wrong = f"the {split} split is empty; give more text, or another --data.validation-share"
    require(n_bytes > 0, wrong)
    return n_bytes


def in_batches(
    chunks: Iterable[TextChunk], total: int, what: str, report: Report, batch_characters: int
) -> Iterator[list[TextChunk]]:
    """Yields lists of chunks with about batch_characters in each, and reports the progress.

    total is the number of bytes in all chunks, or an estimate of it.
    """
    done = size = 0
    batch: list[TextChunk] = []
    report(0, total, what)
    for chunk in chunks:
        batch.append(chunk)
        size += len(chunk.text)
        done += len(chunk.text.encode())
        if size >= batch_characters:
            yield batch
            report(min(done, total), total, what)
            batch, size = [], 0
    yield batch
    report(total, total, what)
