"""Token shards: what `python main.py prepare` writes, and training maps into memory.

    shards/index.json              a list of the other files: an Index
           tokenizer.json          the tokenizer whose ids the shards hold
           train-00000.bin ...     little-endian numbers; end to end they are one stream a split
           validation-00000.bin ...

Previous: token_files.py.  Next: prepared.py.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from cfg_gpt2 import require
from data import SPLITS
from run_directory.files import sha256
from run_directory.json_file import is_file_name, read_json_as, shortened
from run_directory.paths import user_path
from tokenizer import TOKENIZER_FILE

INDEX_FILE = "index.json"
FORMAT = "gpt2-from-scratch shards 1"
END_BYTES = 4096  # bytes at both ends of a shard that opening compares with the index
AGAIN = "prepare it again"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of a stream, as the index describes it."""

    file: str
    tokens: int
    documents: int  # that begin in it
    bytes: int  # of their text in UTF-8
    sha256: str
    ends_sha256: str  # of its first and last END_BYTES bytes

    def __post_init__(self) -> None:
        file = shortened(self.file)
        require(is_file_name(self.file), f"{file} is no name of a file in the same folder")
        require(self.tokens >= 1, f"{file} is said to have {self.tokens} tokens")
        # every token stands for a byte at least, but for the one before a document and the last
        least = max(0, self.tokens - self.documents - 1)
        require(
            0 <= self.documents <= self.tokens and least <= self.bytes,
            f"{file} is said to have {self.tokens} tokens of {self.documents} documents and "
            f"{self.bytes} bytes, which cannot be",
        )


@dataclass(frozen=True, kw_only=True)
class Index:
    """The contents of index.json: what a prepared folder holds and was made of."""

    format: Literal["gpt2-from-scratch shards 1"] = FORMAT
    dtype: Literal["uint16", "uint32"]
    tokenizer_sha256: str  # of tokenizer.json
    sources: list[str]  # for people: what it was made from
    train: list[Shard]
    validation: list[Shard]

    def shards(self, split: str) -> list[Shard]:
        """Returns the shards of a split, in the order of the stream."""
        return self.train if split == "train" else self.validation

    def n_bytes(self, split: str) -> int:
        """Returns the number of UTF-8 bytes of a split's text."""
        return sum(shard.bytes for shard in self.shards(split))


def is_prepared(path: str) -> bool:
    """Returns whether a path of the command line names a folder that `prepare` wrote."""
    try:
        with (user_path(path, "--data.path") / INDEX_FILE).open("rb") as file:
            return FORMAT.rpartition(" ")[0].encode() in file.read(END_BYTES)
    except (OSError, ValueError):  # whoever reads the path as a text says what is wrong with it
        return False


def read_index(folder: Path) -> Index:
    """Returns the index of a prepared folder.

    Raises FileNotFoundError where the folder has none, and ValueError for one that cannot be read.
    """
    file = folder / INDEX_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; name a folder that main.py prepare wrote")
    try:
        return read_json_as(Index, file)
    except ValueError as error:
        raise ValueError(f"{error}; {AGAIN}") from None


def open_shards(folder: Path) -> tuple[Index, dict[str, list[np.ndarray]]]:
    """Returns the index of a prepared folder and the shards of each split, mapped into memory.

    Raises FileNotFoundError for a missing shard; ValueError for one of another size or with
    other ends than the index says, and for another tokenizer.
    """
    index = read_index(folder)
    tokenizer = folder / TOKENIZER_FILE
    require(tokenizer.is_file(), f"{tokenizer} is missing; {AGAIN}")
    require(
        sha256(tokenizer) == index.tokenizer_sha256,
        f"{tokenizer} is not the tokenizer that {folder} was prepared with; {AGAIN}",
    )
    dtype = np.dtype(index.dtype).newbyteorder("<")
    mapped: dict[str, list[np.ndarray]] = {}
    for split in SPLITS:
        n_bytes, n_tokens = index.n_bytes(split), sum(s.tokens for s in index.shards(split))
        require(n_tokens > 0, f"{folder} has no {split} shard; {AGAIN}")
        require(
            0 < n_bytes <= n_tokens * tokenizer.stat().st_size,  # longer than any token
            f"{folder / INDEX_FILE} says that the {n_tokens} tokens of the {split} text are "
            f"{n_bytes} bytes, which cannot be; {AGAIN}",
        )
        mapped[split] = [open_shard(folder, shard, dtype) for shard in index.shards(split)]
    return index, mapped


def open_shard(folder: Path, shard: Shard, dtype: np.dtype) -> np.ndarray:
    """Returns a shard, mapped into memory.

    Raises FileNotFoundError where it is missing, and ValueError where its size or its first or
    last bytes are not those in the index.
    """
    file = folder / shard.file
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; copy it to the others, or {AGAIN}")
    size, expected = file.stat().st_size, shard.tokens * dtype.itemsize
    require(
        size == expected,
        f"{file} has {size:,} bytes, but {INDEX_FILE} says {expected:,}; copy it again, or {AGAIN}",
    )
    require(
        ends_sha256(file) == shard.ends_sha256,
        f"{file} does not belong to {folder / INDEX_FILE}: it comes from another preparation or "
        f"is damaged; copy it again, or {AGAIN}",
    )
    return np.memmap(file, dtype, "r")


def check_shards(folder: Path, report: Callable[[int, int, str], None]) -> Index:
    """Reads every byte of a prepared folder, compares the checksums, and returns its index.

    Raises ValueError where a checksum differs; report gets bytes done, bytes in all, and a word.
    """
    index, _ = open_shards(folder)
    shards = [*index.train, *index.validation]
    done, total = 0, sum((folder / shard.file).stat().st_size for shard in shards)
    for shard in shards:
        report(done, total, "checking")
        require(
            sha256(folder / shard.file) == shard.sha256,
            f"{folder / shard.file} is damaged: its SHA-256 is not the one in {INDEX_FILE}; "
            f"copy it again, or {AGAIN}",
        )
        done += (folder / shard.file).stat().st_size
    report(done, total, "checking")
    return index


def ends_sha256(file: Path) -> str:
    """Returns the SHA-256 of the first and the last END_BYTES bytes of a file."""
    with file.open("rb") as data:
        head = data.read(END_BYTES)
        data.seek(max(0, file.stat().st_size - END_BYTES))
        return hashlib.sha256(head + data.read(END_BYTES)).hexdigest()


def index_text(index: Index) -> str:
    """Returns the text of index.json."""
    settings = TypeAdapter(Index).dump_python(index, mode="json")
    return json.dumps(settings, ensure_ascii=False, indent=1) + "\n"
