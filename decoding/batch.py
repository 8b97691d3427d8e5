"""Batch: texts that are written side by side, each as if it were alone.

The prompts are read once (prefill); from then on one token a step for each row. Rows may have
any lengths: position p of a row lies in slot p of the cache, and a mask hides the slots behind
its end. Positions are learned, so a model has no place for more than context_length tokens: a
row whose window is full forgets the older half and reads the newer half again, from position 0.
"""

import math
from collections.abc import Iterator
from itertools import takewhile

import torch
from torch import Tensor

from decoding.ragged_cache import RaggedCache
from gpt2 import GPT2Model

PREFILL_TOKENS = 1024  # read at once at most, unless one row has more: bounds the memory
WORTH_SHARING = 32  # tokens of reading that a common beginning has to save


class Batch:
    """The texts, their cache, and the logits of the next token of each."""

    def __init__(self, model: GPT2Model, texts: list[list[int]], max_new_tokens: int) -> None:
        self.model = model
        self.device = model.device
        self.texts = [list(text) for text in texts]
        longest = max(map(len, texts)) + max_new_tokens
        n_positions = min(longest, model.config.context_length)
        try:
            self.cache = RaggedCache(model, len(texts), n_positions)
        except RuntimeError as error:  # what PyTorch raises where there is no memory
            raise ValueError(
                f"no memory for a cache of {len(texts)} texts of {n_positions} tokens: {error}; "
                "ask for fewer at once (--samples, --beams) or for fewer --max-new-tokens"
            ) from None

    def read(self) -> Tensor:
        """-> (B, V): the logits behind every text, after reading all of them."""
        windows = [text[self.start_of(text) :] for text in self.texts]
        n_shared = common_beginning(windows)
        if n_shared * (len(windows) - 1) < WORTH_SHARING:
            n_shared = 0
        else:  # for the first row, then copied to the others
            self.read_rows(0, [windows[0][:n_shared]])
            self.cache.truncate([n_shared] * len(windows))
            self.cache.reorder([0] * len(windows))
        hidden_states = self.read_rows(0, [window[n_shared:] for window in windows], n_shared)
        self.cache.truncate([len(window) for window in windows])
        return self.model.lm_head(hidden_states).float()

    def step(self, tokens: Tensor) -> Tensor:
        """(B, 1) -> (B, V): one more token for every row -> the logits behind it."""
        before = [self.start_of(text) for text in self.texts]
        for text, token in zip(self.texts, tokens.flatten().tolist(), strict=True):
            text.append(token)
        after = [self.start_of(text) for text in self.texts]
        if after != before:
            self.rebuild([row for row in range(len(before)) if after[row] != before[row]])
        return self.model(tokens, self.cache)[:, -1].float()

    def rebuild(self, rows: list[int]) -> None:
        """Reads the windows of some rows anew, all but the last token, which is about to come."""
        windows = {row: self.texts[row][self.start_of(self.texts[row]) : -1] for row in rows}
        for start, stop in runs([row for row in rows if windows[row]]):
            self.read_rows(start, [windows[row] for row in range(start, stop)])
        self.cache.truncate([len(text) - 1 - self.start_of(text) for text in self.texts])

    def read_rows(self, first: int, rows: list[list[int]], n_before: int = 0) -> Tensor:
        """-> (B, C): the hidden states of the last tokens of rows `first` and on.

        n_before tokens of each row are cached.

        Short rows are padded behind their end, where no query looks.
        """
        hidden_states = []
        for start, stop in groups([len(row) for row in rows]):
            longest = max(map(len, rows[start:stop]))
            padded = [row + [0] * (longest - len(row)) for row in rows[start:stop]]
            tokens = torch.tensor(padded, device=self.device)
            part = self.cache.view_rows(first + start, first + stop, n_before)
            x = self.model.hidden_states(tokens, part)
            hidden_states += [x[i, len(row) - 1] for i, row in enumerate(rows[start:stop])]
        return torch.stack(hidden_states)

    def keep(self, rows: list[int]) -> None:
        """Row i becomes what row rows[i] is; the others leave."""
        self.texts = [list(self.texts[row]) for row in rows]
        self.cache.reorder(rows)

    def start_of(self, text: list[int]) -> int:
        return window_start(len(text), self.model.config.context_length)


def window_start(n_tokens: int, context_length: int) -> int:
    """The first of n_tokens that the model still sees: it moves on by half a context at a time."""
    step = max(1, context_length // 2)
    return math.ceil(max(0, n_tokens - context_length) / step) * step


def common_beginning(windows: list[list[int]]) -> int:
    """Tokens that all begin with; the last of the shortest does not count, it has to be read."""
    pairs = zip(min(windows), max(windows), strict=False)  # between them lie all others
    n_equal = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return min(n_equal, min(map(len, windows)) - 1)


def groups(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbours that are padded and read together: (start, stop) after (start, stop)."""
    start = 0
    for stop in range(1, len(lengths) + 1):
        if (
            stop == len(lengths)
            or max(lengths[start : stop + 1]) * (stop + 1 - start) > PREFILL_TOKENS
        ):
            yield start, stop
            start = stop


def runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Neighbours, which lie side by side in the cache: 0, 1, 2, 5, 6 are 0 to 3 and 5 to 7."""
    start = 0
    for i in range(1, len(rows) + 1):
        if i == len(rows) or rows[i] != rows[i - 1] + 1:
            yield rows[start], rows[i - 1] + 1
            start = i
