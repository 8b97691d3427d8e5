"""Token shards: what `python main.py prepare` writes, and training maps into memory.

    shards/index.json              what the others are: an Index
           tokenizer.json          whose ids they hold
           train-00000.bin ...     little-endian numbers, end to end one stream a split
           validation-00000.bin ...

Previous: text_files.py.  Next: ../load_data.py.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from cfg_gpt2 import require
from tokenizer import TOKENIZER_FILE

INDEX_FILE = "index.json"
FORMAT = "gpt2-from-scratch shards 1"
ENDS = 4096  # bytes at both ends of a shard that opening compares with the index
CHUNK = 1 << 24  # bytes read at a time
AGAIN = "prepare it again"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A part of a stream, in a file of its own."""

    file: str
    tokens: int
    documents: int  # that begin in it
    bytes: int  # of their text in UTF-8
    sha256: str
    ends_sha256: str  # of its first and last ENDS bytes


@dataclass(frozen=True, kw_only=True)
class Index:
    """index.json."""

    format: Literal["gpt2-from-scratch shards 1"] = FORMAT
    dtype: Literal["uint16", "uint32"]
    tokenizer_sha256: str  # of tokenizer.json
    sources: list[str]  # for people: what it was made from
    train: list[Shard]
    validation: list[Shard]

    def shards(self, split: str) -> list[Shard]:
        return self.train if split == "train" else self.validation

    def n_bytes(self, split: str) -> int:
        """UTF-8 bytes of a split's text."""
        return sum(shard.bytes for shard in self.shards(split))


class Stream:
    """Arrays of tokens end to end, read as if they were one: its length, and slices."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = parts
        self.stops = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self.stops[-1])

    def __getitem__(self, wanted: slice) -> np.ndarray:
        start, stop, _ = wanted.indices(len(self))
        first = int(np.searchsorted(self.stops, start, side="right"))
        found = []
        while start < stop:
            part, begins = self.parts[first], int(self.stops[first]) - len(self.parts[first])
            found.append(part[start - begins : stop - begins])
            start, first = begins + len(part), first + 1
        return np.concatenate(found) if len(found) > 1 else (found or [self.parts[0][:0]])[0]

    def part(self, start: int, stop: int) -> "Stream":
        """A stretch of it, not empty and without a copy."""
        begins = [int(end) - len(part) for end, part in zip(self.stops, self.parts, strict=True)]
        cuts = [(max(0, start - b), max(0, stop - b)) for b in begins]
        pairs = zip(self.parts, cuts, strict=True)
        return Stream([part[a:b] for part, (a, b) in pairs if len(part[a:b])])


def is_prepared(path: str) -> bool:
    """Whether a path of the command line names a folder that `prepare` wrote."""
    file = Path(path).expanduser() / INDEX_FILE
    return file.is_file() and FORMAT.rpartition(" ")[0] in file.read_text(encoding="utf-8")


def read_index(folder: Path) -> Index:
    """index.json of a folder. Raises FileNotFoundError or ValueError where it is none."""
    file = folder / INDEX_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; name a folder that main.py prepare wrote")
    try:
        return TypeAdapter(Index).validate_json(file.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{file} cannot be used: {where}: {first['msg']}; {AGAIN}") from None


def open_shards(folder: Path) -> tuple[Index, dict[str, list[np.ndarray]]]:
    """A prepared folder and its shards, mapped into memory, after a look at each.

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
    for split in ("train", "validation"):
        require(len(index.shards(split)) > 0, f"{folder} has no {split} shard; {AGAIN}")
        mapped[split] = [open_shard(folder, shard, dtype) for shard in index.shards(split)]
    return index, mapped


def open_shard(folder: Path, shard: Shard, dtype: np.dtype) -> np.ndarray:
    """A shard, mapped into memory, if it looks like what the index says."""
    file = folder / shard.file
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; copy it to the others, or {AGAIN}")
    size, wanted = file.stat().st_size, shard.tokens * dtype.itemsize
    require(
        size == wanted,
        f"{file} has {size:,} bytes, but {INDEX_FILE} says {wanted:,}; copy it again, or {AGAIN}",
    )
    require(
        ends_sha256(file) == shard.ends_sha256,
        f"{file} does not belong to {folder / INDEX_FILE}: it comes from another preparation or "
        f"is damaged; copy it again, or {AGAIN}",
    )
    return np.memmap(file, dtype, "r")


def check_shards(folder: Path, report: Callable[[int, int, str], None]) -> Index:
    """Reads every byte of a prepared folder. Raises ValueError where a checksum is not met."""
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


def sha256(file: Path) -> str:
    """Of a whole file."""
    found = hashlib.sha256()
    with file.open("rb") as data:
        while chunk := data.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def ends_sha256(file: Path) -> str:
    """Of the first and the last ENDS bytes of a file."""
    with file.open("rb") as data:
        head = data.read(ENDS)
        data.seek(max(0, file.stat().st_size - ENDS))
        return hashlib.sha256(head + data.read(ENDS)).hexdigest()


def index_text(index: Index) -> str:
    """What stands in index.json."""
    settings = TypeAdapter(Index).dump_python(index, mode="json")
    return json.dumps(settings, ensure_ascii=False, indent=1) + "\n"
