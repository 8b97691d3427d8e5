"""Orders of training windows: which window has which number.

    a window     stream[start : start + length] and the token behind it, the last target
    an order     number 0, 1, 2, ... without end  ->  a window

A position in the training data is one number, so to resume is to remember it. Which window has a
number depends on the text and the seed alone: ranks that take the numbers first + rank,
first + rank + n_ranks, ... read together what one process reads.

The order of an ordinary text is DocumentWindows, in load_data.py.
Previous: order.py.  Next: ../load_data.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from cfg_gpt2 import require
from data.order import MixtureSchedule, Permutation
from data.stream import TokenStream


class Window(NamedTuple):
    """The tokens start ... start + length - 1 of a stream; the target of each is the next one."""

    stream: TokenStream
    start: int
    length: int


class WindowOrder(ABC):
    """Training windows in an endless order."""

    @abstractmethod
    def window(self, number: int) -> Window:
        """Returns the window with a number, counted from 0; it has at most context_length
        tokens.
        """

    @abstractmethod
    def epochs(self, n_windows: int) -> list[float]:
        """Returns how often the first n_windows go through the text, or each of several texts."""


class FullWindows(WindowOrder):
    """Windows of exactly context_length tokens, end to end, in a stream of any length.

    Each epoch begins at a random phase and reads each window once. The order is computed and not
    stored, so any window of any stream is found in the same time.
    """

    def __init__(self, stream: TokenStream, context_length: int, seed: int) -> None:
        """Raises ValueError where the stream is shorter than a window and its last target."""
        require_window(len(stream), context_length)
        self.stream, self.context_length, self.seed = stream, context_length, seed
        self.n_windows, self.remainder = divmod(len(stream) - 1, context_length)
        self._start_epoch(0)

    def _start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.order = Permutation(self.n_windows, self.seed, epoch)
        self.phase = Permutation(self.remainder + 1, self.seed, epoch)[0]

    def window(self, number: int) -> Window:
        """Returns the window with a number; see WindowOrder."""
        epoch, place = divmod(number, self.n_windows)
        if epoch != self.epoch:
            self._start_epoch(epoch)
        start = self.phase + self.order[place] * self.context_length
        return Window(self.stream, start, self.context_length)

    def epochs(self, n_windows: int) -> list[float]:
        """Returns the epochs that so many windows make; see WindowOrder."""
        return [n_windows / self.n_windows]


class MixedWindows(WindowOrder):
    """The windows of several texts, each text in its own order, mixed by weight."""

    def __init__(self, orders: Sequence[WindowOrder], weights: Sequence[float]) -> None:
        self.orders, self.schedule = orders, MixtureSchedule(weights)

    def window(self, number: int) -> Window:
        """Returns the window with a number; see WindowOrder."""
        source, place = self.schedule.source(number)
        return self.orders[source].window(place)

    def epochs(self, n_windows: int) -> list[float]:
        """Returns the epochs that so many windows make; see WindowOrder."""
        counts = self.schedule.counts(n_windows)
        pairs = zip(self.orders, counts, strict=True)
        return [epochs for order, count in pairs for epochs in order.epochs(count)]


def require_window(n_tokens: int, context_length: int) -> None:
    """Raises ValueError where a text is shorter than a window and its last target."""
    require(
        n_tokens > context_length,
        f"the training text has {n_tokens} tokens, but a window of --model.context-length "
        f"{context_length} needs {context_length + 1}; give more text, or try "
        f"--model.context-length {max(1, n_tokens - 1)}",
    )
