"""One or several folders of shards as one corpus: their streams end to end.

Previous: shards.py.  Next: order.py.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfg_gpt2 import DataConfig, require
from data import SPLITS
from data.shards import is_prepared, open_shards
from data.stream import Stream
from run_directory.paths import user_path


@dataclass(frozen=True)
class PreparedText:
    """The shards of all folders that --data.path names."""

    folder: Path  # the first, with the tokenizer of all
    streams: dict[str, Stream]  # of each split
    n_bytes: dict[str, int]  # UTF-8 bytes of each split's text
    text_starts: tuple[int, ...]  # positions in the training stream where each folder's text begins
    sha256: str  # of the SHA-256 sums of all shards


def open_prepared(config: DataConfig) -> PreparedText:
    """Opens the folders that config.path names.

    Raises FileNotFoundError for a missing shard; ValueError for shards that do not belong
    together, for folders with different tokenizers, and for settings that preparing has fixed.
    """
    as_prepared = DataConfig(path=config.path, mix=config.mix, cache_dir=config.cache_dir)
    require(
        config == as_prepared,
        f"--data.path {config.path[0]} is prepared: its tokenizer and its validation text are "
        "chosen; leave out the other --data settings but --data.mix",
    )
    parts: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    n_bytes = dict.fromkeys(SPLITS, 0)
    text_starts, tokenizers, digest = [], [], hashlib.sha256()
    for path in config.path:
        require(
            is_prepared(path),
            f"{path} is not prepared and {config.path[0]} is; "
            "prepare it with --data.tokenizer of the other",
        )
        index, shards = open_shards(user_path(path, "--data.path"))
        text_starts.append(max(0, sum(map(len, parts["train"])) - 1))
        tokenizers.append(index.tokenizer_sha256)
        require(
            tokenizers[-1] == tokenizers[0],
            f"{path} has another tokenizer than {config.path[0]}; prepare it with "
            f"--data.tokenizer {config.path[0]}",
        )
        for split in SPLITS:
            first, *others = shards[split]
            joined = bool(parts[split])  # then the stream before ends with an end-of-text token
            parts[split] += [first[1:] if joined else first, *others]
            n_bytes[split] += index.n_bytes(split)
            for shard in index.shards(split):
                digest.update(shard.sha256.encode())
    streams = {split: Stream(parts[split]) for split in SPLITS}
    folder = user_path(config.path[0], "--data.path")
    return PreparedText(folder, streams, n_bytes, tuple(text_starts), digest.hexdigest())
