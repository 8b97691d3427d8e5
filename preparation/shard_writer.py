"""Writing shards, with a record in progress.json of what is safely on the disk.

    .shards.part/    progress.json · tokenizer.json · train-00000.bin ...     while it is made
    shards/          index.json    · tokenizer.json · train-00000.bin ...     when it is done

A stop at any moment, by a kill or a power cut, costs the seconds since the last save: what was
written after it is cut off, and the same bytes are written again.
Previous: worker_pool.py.  Next: README.md.
"""

import json
import os
from dataclasses import asdict, astuple, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cfg_gpt2 import require
from data import SPLITS
from data.shards import INDEX_FILE, Index, Shard, ends_sha256, index_text
from preparation.worker_process import Counts, EncodedJob
from run_directory.files import sha256, write_whole
from run_directory.json_file import read_json_as, shortened
from tokenizer import TOKENIZER_FILE

PROGRESS_FILE = "progress.json"


@dataclass(frozen=True, kw_only=True)
class WriterState:
    """How far a split is written: its full shards, and the counts of the open one."""

    shards: list[Shard]
    amount: Counts


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The contents of progress.json."""

    made_from: list
    position: int
    size: int
    train: WriterState
    validation: WriterState

    def __post_init__(self) -> None:
        amounts = [astuple(split.amount) for split in (self.train, self.validation)]
        numbers = [self.position, self.size, *chain(*amounts)]
        require(all(0 <= n < 2**63 for n in numbers), "it has numbers that cannot be")


class ShardWriter:
    """Writes the shards of one split; a shard that is full is closed and then hashed."""

    def __init__(self, folder: Path, split: str, itemsize: int, shard_tokens: int) -> None:
        self.folder, self.split = folder, split
        self.itemsize, self.shard_tokens = itemsize, shard_tokens
        self.shards: list[Shard] = []
        self.counts = Counts()  # of the open shard
        self.file: BinaryIO | None = None

    @property
    def path(self) -> Path:
        """The file of the open shard, or of the next one."""
        return self.folder / f"{self.split}-{len(self.shards):05d}.bin"

    def state(self) -> "WriterState":
        """Returns what `restore` needs, once all of it is on the disk."""
        if self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
        return WriterState(shards=list(self.shards), amount=replace(self.counts))

    def restore(self, state: "WriterState") -> None:
        """Goes back to an earlier `state` and cuts off what was written after it.

        Raises ValueError where the files are shorter than the state says.
        """
        self.shards, self.counts = state.shards, state.amount
        files = {shard.file: shard.tokens for shard in self.shards}
        if self.counts.tokens:
            files[self.path.name] = self.counts.tokens
        for number, (name, n_tokens) in enumerate(files.items()):
            require(name == f"{self.split}-{number:05d}.bin", f"{shortened(name)} is no next shard")
            file = self.folder / name
            size = file.stat().st_size if file.is_file() else 0
            require(size >= n_tokens * self.itemsize, f"{name} has fewer than {n_tokens} tokens")
        if self.counts.tokens:
            self.file = self.path.open("r+b")
            self.file.truncate(self.counts.tokens * self.itemsize)
            self.file.seek(0, os.SEEK_END)

    def write(self, counts: Counts, tokens: bytes) -> None:
        """Writes the tokens of a job; a shard ends behind the job that fills it."""
        if counts.tokens:
            if self.counts.tokens >= self.shard_tokens:
                self.close()
            self.append(counts, tokens)

    def append(self, counts: Counts, tokens: bytes) -> None:
        """Writes tokens into the open shard, and opens one where there is none."""
        self.file = self.file or self.path.open("wb")
        self.file.write(tokens)
        self.counts.tokens += counts.tokens
        self.counts.documents += counts.documents
        self.counts.bytes += counts.bytes

    def close(self) -> None:
        """Ends the open shard."""
        assert self.file
        self.state()
        self.file.close()
        shard = Shard(
            file=self.path.name,
            **asdict(self.counts),
            sha256=sha256(self.path),
            ends_sha256=ends_sha256(self.path),
        )
        self.shards.append(shard)
        self.file, self.counts = None, Counts()

    def finish(self, end_of_text: bytes) -> None:
        """Writes the last end-of-text token. Raises ValueError where the split has no text."""
        require(
            bool(self.shards or self.counts.tokens),
            f"the {self.split} split is empty; give more text, or another --data.validation-share",
        )
        self.append(Counts(tokens=1), end_of_text)
        self.close()


class Preparation:
    """A folder of shards while it is made, and the position in the source up to which it is."""

    def __init__(self, folder: Path, identity: list, dtype: np.dtype, shard_tokens: int) -> None:
        """identity changes whenever the data or the settings do, which would give other shards."""
        self.folder, self.dtype = folder, dtype
        self.identity = json.loads(json.dumps(identity))  # as it comes back from a file
        self.writers = {
            split: ShardWriter(folder, split, dtype.itemsize, shard_tokens) for split in SPLITS
        }
        self.position = 0  # in the source, behind the last job that was written
        self.size = 0  # bytes of the source up to there

    def resume(self) -> None:
        """Goes on where an earlier call was stopped.

        Raises ValueError where that call had other data or other settings.
        """
        file = self.folder / PROGRESS_FILE
        anew = f"remove {self.folder} to start anew"
        try:
            progress = read_json_as(Progress, file)
        except ValueError as error:
            raise ValueError(f"{error}; {anew}") from None
        require(
            progress.made_from == self.identity,
            f"{self.folder} was begun with other data or settings; repeat the first command to go "
            f"on, or {anew}",
        )
        self.position, self.size = progress.position, progress.size
        try:
            for split, state in zip(SPLITS, (progress.train, progress.validation), strict=True):
                self.writers[split].restore(state)
        except ValueError as error:
            raise ValueError(f"{file} does not fit the files beside it: {error}; {anew}") from None

    def write(self, position: int, size: int, encoded: EncodedJob) -> None:
        """Writes the next job; position is behind it, and size is that of its source in bytes."""
        for split, writer in self.writers.items():
            writer.write(*encoded[split])
        self.position, self.size = position, self.size + size

    def save(self) -> None:
        """Records in progress.json the point from which `resume` goes on."""
        progress = Progress(
            made_from=self.identity,
            position=self.position,
            size=self.size,
            train=self.writers["train"].state(),
            validation=self.writers["validation"].state(),
        )
        text = json.dumps(asdict(progress))
        write_whole(self.folder / PROGRESS_FILE, lambda p: p.write_text(text, encoding="utf-8"))

    def finish(self, end_of_text: int, sources: list[str]) -> Index:
        """Writes the last tokens and index.json, and returns the index; sources are names."""
        last = np.array([end_of_text], self.dtype).tobytes()
        for writer in self.writers.values():
            writer.finish(last)
        index = Index(
            dtype="uint16" if self.dtype.itemsize == 2 else "uint32",
            tokenizer_sha256=sha256(self.folder / TOKENIZER_FILE),
            sources=sources,
            train=self.writers["train"].shards,
            validation=self.writers["validation"].shards,
        )
        text = index_text(index)
        write_whole(self.folder / INDEX_FILE, lambda p: p.write_text(text, encoding="utf-8"))
        return index
