"""The sliding window, which scores a text that is longer than the context.

    window k reads    stream[begin .. stop - 1],        at most context_length tokens
    and is scored on  stream[scored_from + 1 .. stop],  the targets that no earlier window has
    begin of the next = begin + stride

With stride = context_length the windows do not overlap, as in training. A smaller stride gives
every target at least context_length - stride tokens of context, and takes
context_length / stride times as long. A window that reaches the end of a document ends there, and
the next begins there, so that no document loses its beginning.
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
    """A window as positions in a stream, and the targets on which it is scored."""

    begin: int  # of the first token that is read
    scored_from: int  # the targets after this position are scored
    stop: int  # of the last target


def sliding_windows(
    boundaries: np.ndarray, n_tokens: int, context_length: int, stride: int
) -> Iterator[ScoredWindow]:
    """Yields windows that score every token of a stream but its first exactly once.

    boundaries are the positions of the end-of-text tokens, in order.
    """
    begin = stop = 0
    while stop < n_tokens - 1:
        scored_from, stop = stop, min(begin + context_length, n_tokens - 1)
        n_reached = int(np.searchsorted(boundaries, stop, side="right"))
        ends_at_document = n_reached > 0 and boundaries[n_reached - 1] > scored_from
        if ends_at_document:
            stop = int(boundaries[n_reached - 1])
        yield ScoredWindow(begin, scored_from, stop)
        begin = stop if ends_at_document else begin + stride


def window_batches(
    split: Split, context_length: int, stride: int, batch_size: int, end_of_text: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the windows of a split: tokens and targets, (B, T) int64.

    A target that is not scored is IGNORE_INDEX. Windows are bucketed by length, to pad little.
    """
    boundaries = document_boundaries(split.tokens, end_of_text)
    windows = sliding_windows(boundaries, len(split.tokens), context_length, stride)
    while bucket := list(islice(windows, BUCKET_SIZE * batch_size)):
        bucket.sort(key=lambda window: window.stop - window.begin)
        for first in range(0, len(bucket), batch_size):
            rows = bucket[first : first + batch_size]
            whole = [Window(split.tokens, row.begin, row.stop - row.begin) for row in rows]
            tokens, targets = collate(whole, context_length, end_of_text)
            for row, window in enumerate(rows):
                targets[row, : window.scored_from - window.begin] = IGNORE_INDEX
            yield tokens, targets
