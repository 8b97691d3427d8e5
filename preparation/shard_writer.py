"""Tokens become shards, and progress.json says up to where they are safe on the disk.

    .shards.part/    progress.json · tokenizer.json · train-00000.bin ...     while it is made
    shards/          index.json    · tokenizer.json · train-00000.bin ...     when it is done

A stop at any moment, by kill or by a power cut, costs the seconds since the last save: what was
written after it is cut off, and the same bytes are written again.
Previous: workers.py.  Next: README.md.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cfg_gpt2 import require
from data import SPLITS
from data.shards import INDEX_FILE, Index, Shard, ends_sha256, index_text
from preparation.worker import Amount, Encoded
from run_directory.files import sha256, write_whole
from tokenizer import TOKENIZER_FILE

PROGRESS_FILE = "progress.json"


class ShardWriter:
    """The shards of one split: each is full, then closed, then hashed."""

    def __init__(self, folder: Path, split: str, itemsize: int, shard_tokens: int) -> None:
        self.folder, self.split = folder, split
        self.itemsize, self.shard_tokens = itemsize, shard_tokens
        self.shards: list[Shard] = []
        self.amount = Amount()  # in the shard that is open
        self.file: BinaryIO | None = None

    @property
    def path(self) -> Path:
        return self.folder / f"{self.split}-{len(self.shards):05d}.bin"

    def restore(self, shards: list[dict], amount: dict) -> None:
        """Goes back to what `state` said; what was written later is cut off."""
        self.shards, self.amount = [Shard(**shard) for shard in shards], Amount(**amount)
        if self.amount.tokens:
            self.file = self.path.open("r+b")
            self.file.truncate(self.amount.tokens * self.itemsize)
            self.file.seek(0, os.SEEK_END)

    def state(self) -> dict:
        """What `restore` needs, when all of it is on the disk."""
        if self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
        return {"shards": [asdict(shard) for shard in self.shards], "amount": asdict(self.amount)}

    def write(self, amount: Amount, tokens: bytes) -> None:
        """A job's part; a shard ends behind the job that fills it."""
        if amount.tokens:
            if self.amount.tokens >= self.shard_tokens:
                self.close()
            self.append(amount, tokens)

    def append(self, amount: Amount, tokens: bytes) -> None:
        self.file = self.file or self.path.open("wb")
        self.file.write(tokens)
        self.amount.tokens += amount.tokens
        self.amount.documents += amount.documents
        self.amount.bytes += amount.bytes

    def close(self) -> None:
        """Ends the shard that is open."""
        assert self.file
        self.state()
        self.file.close()
        path = self.path
        self.shards.append(
            Shard(
                file=path.name, **asdict(self.amount), sha256=sha256(path),
                ends_sha256=ends_sha256(path),
            )
        )  # fmt: skip
        self.file, self.amount = None, Amount()

    def finish(self, end_of_text: bytes) -> None:
        """Writes the last end of a text. Raises ValueError where nothing stands before it."""
        require(
            bool(self.shards or self.amount.tokens),
            f"the {self.split} split is empty; give more text, or another --data.validation-share",
        )
        self.append(Amount(tokens=1), end_of_text)
        self.close()


class Preparation:
    """A folder of shards that is being made aside."""

    def __init__(self, aside: Path, made_from: list, dtype: np.dtype, shard_tokens: int) -> None:
        self.aside, self.dtype = aside, dtype
        self.made_from = json.loads(json.dumps(made_from))  # as it comes back from a file
        self.writers = {
            split: ShardWriter(aside, split, dtype.itemsize, shard_tokens) for split in SPLITS
        }
        self.position = 0  # of the source, behind the last job that was written
        self.size = 0  # bytes of the source up to there

    def resume(self) -> None:
        """Goes on where an earlier call was stopped.

        Raises ValueError where that was made from other data or with other settings.
        """
        progress = json.loads((self.aside / PROGRESS_FILE).read_text(encoding="utf-8"))
        require(
            progress["made_from"] == self.made_from,
            f"{self.aside} was begun with other data or settings; repeat the first command to go "
            "on, or remove that folder to start anew",
        )
        self.position, self.size = progress["position"], progress["size"]
        for split, writer in self.writers.items():
            writer.restore(**progress[split])

    def write(self, position: int, size: int, encoded: Encoded) -> None:
        """What is in the next job."""
        for split, writer in self.writers.items():
            writer.write(*encoded[split])
        self.position, self.size = position, self.size + size

    def save(self) -> None:
        """From here `resume` goes on."""
        states = {split: writer.state() for split, writer in self.writers.items()}
        progress = {"made_from": self.made_from, "position": self.position, "size": self.size}
        text = json.dumps({**progress, **states})
        write_whole(self.aside / PROGRESS_FILE, write_synced(text))

    def finish(self, end_of_text: int, names: list[str]) -> Index:
        """The last tokens and the index."""
        border = np.array([end_of_text], self.dtype).tobytes()
        for writer in self.writers.values():
            writer.finish(border)
        index = Index(
            dtype="uint16" if self.dtype.itemsize == 2 else "uint32",
            tokenizer_sha256=sha256(self.aside / TOKENIZER_FILE), sources=names,
            train=self.writers["train"].shards, validation=self.writers["validation"].shards,
        )  # fmt: skip
        write_whole(self.aside / INDEX_FILE, write_synced(index_text(index)))
        return index


def write_synced(text: str) -> Callable[[Path], None]:
    """Writes a text to a path and waits until it is on the disk."""

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    return write
