"""PrepareCommand: the settings of `prepare`, made from its flags.

Previous: ../main.py.  Next: command.py.
"""

from dataclasses import dataclass, field
from pathlib import Path

from cfg_gpt2 import require, require_count, require_range
from commands.flags import parse_flags

MAX_WORKERS = 4096  # processes; each takes a tokenizer's memory


@dataclass(frozen=True, kw_only=True)
class DataFlags:
    """The text that is read, and the tokenizer that turns it into tokens."""

    path: tuple[str, ...] = ()
    """text files, folders and globs; or .jsonl files; or .parquet files, which need the package
    datasets"""
    tokenizer: str = "bpe"
    """bpe (trained on 32 MB of the text), or a folder with a ready vocabulary: GPT-2's, another
    prepared folder, a run"""
    vocab_size: int | None = None  # tokens that the trained bpe may use; None: 2048
    validation_share: float | None = None
    """of the text, kept apart to measure what was learned; None: 0.1, at most 10 MB"""


@dataclass(frozen=True, kw_only=True)
class PrepareCommand:
    """Turn large texts into token shards. A call that was stopped goes on when it is repeated."""

    out: Path | None = None  # the folder to make
    check: Path | None = None  # a folder that was made: read all of it, compare the checksums
    data: DataFlags = field(default_factory=DataFlags)
    dataset: str | None = None  # a data set of the Hugging Face hub; needs the package datasets
    subset: str | None = None  # of --dataset, such as sample-10BT
    dataset_split: str = "train"  # of --dataset
    text_field: str = "text"  # where the text stands in .jsonl, .parquet and --dataset
    workers: int | None = None  # processes; None: one for each core
    shard_tokens: int = 100_000_000  # in each shard, about

    def __post_init__(self) -> None:
        given = [bool(self.data.path), self.dataset is not None, self.check is not None]
        require(
            sum(given) == 1,
            "prepare reads --data.path or --dataset, or does --check; name one of the three",
        )
        require(
            (self.out is None) == (self.check is not None),
            "--out names the folder to make"
            + (", --check one to read" if self.check else "; give it a name, such as --out shards"),
        )
        if self.workers is not None:
            require_count("--workers", self.workers, MAX_WORKERS)
        require_range("--shard-tokens", self.shard_tokens, 1000, 10**12, "; try 100000000")
        require(
            self.subset is None or self.dataset is not None,
            f"--subset {self.subset} is for --dataset; leave it out",
        )
        require(
            self.data.tokenizer != "char",
            "--data.tokenizer char is for small texts, which train reads as they are; take bpe, "
            "or a folder with a vocabulary",
        )


def read_prepare_command(arguments: list[str]) -> PrepareCommand:
    """Returns the settings of `prepare`. Raises ValueError where flags are wrong."""
    return parse_flags(PrepareCommand, "prepare", arguments)
