"""The sliding window: how a text that is longer than the context is read.

    window k reads    stream[begin .. stop - 1],   at most context_length tokens
    and is scored on  stream[scored + 1 .. stop],  the targets that no window before it had
    begin of the next = begin + stride

With stride = context_length the windows lie side by side, as in training. A smaller stride gives
every target at least context_length - stride tokens to look back on, and costs
context_length / stride times as much. A window that reaches the end of a document ends there, and
the next begins there: nobody pays for a past that was cut off.
Previous: text.py.  Next: score.py.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from torch import Tensor

from data.stream import document_boundaries
from data.windows import Window
from load_data import BUCKET_SIZE, Split, collate
from loss import IGNORE_INDEX


class ScoredWindow(NamedTuple):
    """Positions in a stream."""

    begin: int  # of the token that is read first
    scored: int  # the targets behind it are scored
    stop: int  # of the target that comes last


def slide(
    boundaries: np.ndarray, n_tokens: int, context_length: int, stride: int
) -> Iterator[ScoredWindow]:
    """Windows that score every token of a stream but its first exactly once.

    boundaries are the positions of the end-of-text tokens, in order.
    """
    begin = stop = 0
    while stop < n_tokens - 1:
        scored, stop = stop, min(begin + context_length, n_tokens - 1)
        n_reached = int(np.searchsorted(boundaries, stop, side="right"))
        ends = n_reached > 0 and boundaries[n_reached - 1] > scored
        if ends:
            stop = int(boundaries[n_reached - 1])
        yield ScoredWindow(begin, scored, stop)
        begin = stop if ends else begin + stride


def window_batches(
    split: Split, context_length: int, stride: int, batch_size: int, end_of_text: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The windows of a split: tokens and targets, (B, T) int64; what is not scored is ignored.

    Neighbours are sorted by length, so that little is padded.
    """
    boundaries = document_boundaries(split.tokens, end_of_text)
    windows = slide(boundaries, len(split.tokens), context_length, stride)
    while group := list(islice(windows, BUCKET_SIZE * batch_size)):
        group.sort(key=lambda window: window.stop - window.begin)
        for first in range(0, len(group), batch_size):
            rows = group[first : first + batch_size]
            whole = [Window(split.tokens, row.begin, row.stop - row.begin) for row in rows]
            tokens, targets = collate(whole, context_length, end_of_text)
            for row, window in enumerate(rows):
                targets[row, : window.scored - window.begin] = IGNORE_INDEX
            yield tokens, targets
