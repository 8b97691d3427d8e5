"""What the trainer asks of its data: windows in an order, evaluation batches, sizes, a hash.

load_data.Corpus is a text with all of it. Other labelled data may stand in its place, for only the
loss unpacks a batch.
Previous: memory.py.  Next: sums.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from tokenizer import Tokenizer

Batch = tuple[Tensor, ...]  # its last tensor holds the targets; tokens and targets are (B, T)


class Windows(Protocol):
    """The training windows in an endless order; a position is the number of a window."""

    def batch(self, first: int, count: int, step: int = 1) -> Batch:
        """Returns windows first, first + step, ..., `count` in all."""
        ...

    def epochs(self, n_windows: int) -> list[float]:
        """Returns how often the first n_windows go through the data, or each part of them."""
        ...


class SampledWindows(ABC):
    """Windows that the trained model writes itself, by the weights of the step that reads them.

    They are read when their step begins, and never while the step before is under way.
    """

    @abstractmethod
    def batch(self, first: int, count: int, step: int = 1) -> Batch:
        """Returns windows first, first + step, ..., `count` in all."""

    @abstractmethod
    def epochs(self, n_windows: int) -> list[float]:
        """Returns how often the first n_windows go through the data, or each part of them."""


class Part(Protocol):
    """The size of the training or of the validation data."""

    @property
    def n_targets(self) -> int:
        """The tokens that are predicted."""
        ...

    @property
    def n_bytes(self) -> int:
        """The UTF-8 bytes of the text that is predicted."""
        ...


class TrainingData(Protocol):
    """Data to train on and to be measured on."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the tokens."""
        ...

    @property
    def train(self) -> Part:
        """The part to learn from."""
        ...

    @property
    def validation(self) -> Part:
        """The part to be measured on."""
        ...

    @property
    def floor_bits_per_byte(self) -> float | None:
        """The entropy of the text, where it is known."""
        ...

    def windows(self, context_length: int, seed: int) -> Windows:
        """Returns the training windows in the order in which they are read."""
        ...

    def evaluation_batches(self, context_length: int, batch_size: int) -> Iterator[Batch]:
        """Yields batches with every target of the validation data once."""
        ...

    def sha256(self) -> str:
        """Returns a hash of all tokens, which tells a resumed run whether its data changed."""
        ...
