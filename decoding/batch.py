"""RowBatch: rows that are decoded together, each as if it were alone.

The prompts are prefilled at once; from then on a decode step gives every row one more token. Rows
may have any lengths (see ragged_cache.py). Positions are learned, so a model has none beyond
context_length: a row whose window is full drops the older half of it and reads the newer half
again, from position 0.
Previous: ragged_cache.py.  Next: beam.py.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

import torch
from torch import Tensor

from decoding.logits_processors import require_finite
from decoding.ragged_cache import RaggedCache
from decoding.rows import TokenRow
from gpt2 import GPT2Model

PREFILL_TOKENS = 1024  # in one pass at most, unless one row has more: bounds the memory
MIN_SAVED_TOKENS = 32  # that a shared prefix has to save

AnyRow = TypeVar("AnyRow", bound=TokenRow)


class RowBatch(Generic[AnyRow]):
    """The rows, their cache, and the logits of the next token of each."""

    def __init__(self, model: GPT2Model, rows: Sequence[AnyRow], max_new_tokens: int) -> None:
        self.model = model
        self.rows = list(rows)
        longest = max(map(n_tokens, rows)) + max_new_tokens
        capacity = min(longest, model.config.context_length)
        try:
            self.cache = RaggedCache(model, len(rows), capacity)
        except RuntimeError as error:  # what PyTorch raises where there is no memory
            raise ValueError(
                f"no memory for a cache of {len(rows)} texts of {capacity} tokens: {error}; "
                "ask for fewer at once (--samples, --beams) or for fewer --max-new-tokens"
            ) from None

    def prefill(self) -> Tensor:
        """-> (B, V): reads every row whole and returns the logits of its next token."""
        windows = [self.window(row) for row in self.rows]
        n_shared = common_prefix_length(windows)
        if n_shared * (len(windows) - 1) < MIN_SAVED_TOKENS:
            n_shared = 0
        else:  # read for the first row, then copied to the others
            self.prefill_windows(0, [windows[0][:n_shared]])
            self.cache.truncate([n_shared] * len(windows))
            self.cache.reorder([0] * len(windows))
        hidden_states = self.prefill_windows(0, [w[n_shared:] for w in windows], n_shared)
        self.cache.truncate([len(window) for window in windows])
        logits = self.model.lm_head(hidden_states).float()
        require_finite(logits)  # once, for all of a diverged model's are nan
        return logits

    def step(self, tokens: Tensor) -> Tensor:
        """(B, 1) -> (B, V): reads the last token of every row, which the rows have already."""
        sizes = [n_tokens(row) for row in self.rows]
        moved = [i for i, n in enumerate(sizes) if self.start(n) != self.start(n - 1)]
        if moved:
            self.move_windows(moved)
        return self.model(tokens, self.cache)[:, -1].float()

    def move_windows(self, rows: list[int]) -> None:
        """Reads the new windows of some rows, all but the last token, which `step` reads."""
        windows = {row: self.window(self.rows[row])[:-1] for row in rows}
        for start, stop in consecutive([row for row in rows if windows[row]]):
            self.prefill_windows(start, [windows[row] for row in range(start, stop)])
        sizes = [n_tokens(row) for row in self.rows]
        self.cache.truncate([n - 1 - self.start(n) for n in sizes])

    def prefill_windows(self, first: int, windows: list[list[int]], n_cached: int = 0) -> Tensor:
        """-> (B, C): reads tokens of row `first` and those after it, behind n_cached positions.

        Returns the hidden states of each row's last token. Short rows are padded behind their
        end, where no query looks.
        """
        hidden_states = []
        for start, stop in prefill_groups([len(window) for window in windows]):
            longest = max(map(len, windows[start:stop]))
            padded = [w + [0] * (longest - len(w)) for w in windows[start:stop]]
            tokens = torch.tensor(padded, device=self.model.device)
            cache = self.cache.view_rows(first + start, first + stop, n_cached)
            x = self.model.hidden_states(tokens, cache)
            hidden_states += [x[i, len(w) - 1] for i, w in enumerate(windows[start:stop])]
        return torch.stack(hidden_states)

    def keep(self, rows: list[int]) -> None:
        """Keeps the rows of these numbers, in this order; the others leave."""
        self.fork([self.rows[row] for row in rows], rows)

    def fork(self, rows: list[AnyRow], parents: list[int]) -> None:
        """Row i becomes rows[i], of which everything but the last token is row parents[i]."""
        self.rows = rows
        self.cache.reorder(parents)

    def window(self, row: AnyRow) -> list[int]:
        """Returns the tokens of a row that the model still sees."""
        return [*row.prompt, *row.tokens][self.start(n_tokens(row)) :]

    def start(self, n: int) -> int:
        """Returns where the window of a text of n tokens begins."""
        return window_start(n, self.model.config.context_length)


def n_tokens(row: TokenRow) -> int:
    """Returns the length of a row: its prompt and its new tokens."""
    return len(row.prompt) + len(row.tokens)


def window_start(n_tokens: int, context_length: int) -> int:
    """Returns the first of n_tokens that the model still sees.

    It is 0 until the context is full, and then moves on by half a context at a time.
    """
    step = max(1, context_length // 2)
    return math.ceil(max(0, n_tokens - context_length) / step) * step


def common_prefix_length(windows: list[list[int]]) -> int:
    """Returns how many tokens all windows begin with, the last of the shortest not counted.

    That one has to be read in any case: its logits choose the next token.
    """
    pairs = zip(min(windows), max(windows), strict=False)  # between them lie all others
    n_equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return min(n_equal, min(map(len, windows)) - 1)


def prefill_groups(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of neighbours that are padded to one length and read in one pass."""
    start = 0
    for stop in range(1, len(lengths) + 1):
        if (
            stop == len(lengths)
            or max(lengths[start : stop + 1]) * (stop + 1 - start) > PREFILL_TOKENS
        ):
            yield start, stop
            start = stop


def consecutive(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of rows side by side: of 0, 1, 2, 5, 6 first 0 to 3, then 5 to 7."""
    start = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield rows[start], rows[i - 1] + 1
            start = i
