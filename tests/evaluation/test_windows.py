"""The sliding window: which targets are scored, and with how much context."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.stream import document_boundaries
from evaluation.windows import ScoredWindow, sliding_windows, window_batches
from load_data import Split, evaluation_batches, split_at_documents
from loss import IGNORE_INDEX

END = 0


def stream_of(*lengths: int) -> np.ndarray:
    """Documents of these lengths, each token another number."""
    stream, number = [END], 0
    for length in lengths:
        stream += [*range(number + 1, number + length + 1), END]
        number += length
    return np.array(stream, dtype=np.uint16)


def windows_of(stream: np.ndarray, context_length: int, stride: int) -> list[ScoredWindow]:
    boundaries = document_boundaries(stream, END)
    return list(sliding_windows(boundaries, len(stream), context_length, stride))


streams = st.lists(st.integers(1, 40), min_size=1, max_size=8).map(lambda n: stream_of(*n))
strides = st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))


@settings(deadline=None)
@given(streams, strides)
def test_every_target_is_scored_once_with_at_least_context_minus_stride_tokens_before_it(
    stream: np.ndarray, sizes: tuple[int, int]
) -> None:
    stride, context_length = sizes
    scored = []
    boundaries = set(document_boundaries(stream, END).tolist())
    for begin, before, stop in windows_of(stream, context_length, stride):
        assert begin <= before < stop and 0 < stop - begin <= context_length
        scored += range(before + 1, stop + 1)
        if begin not in boundaries:  # in the middle of a document
            assert before - begin >= context_length - stride
            assert boundaries.isdisjoint(range(begin, before + 1))
    assert scored == list(range(1, len(stream)))


@settings(deadline=None)
@given(streams, st.integers(1, 60))
def test_with_stride_equal_to_context_windows_are_those_of_training(
    stream: np.ndarray, context_length: int
) -> None:
    boundaries = document_boundaries(stream, END)
    trained = list(split_at_documents(boundaries, 0, len(stream), context_length))
    windows = windows_of(stream, context_length, context_length)
    assert [(begin, stop) for begin, _, stop in windows] == trained
    assert all(begin == before for begin, before, _ in windows)


def test_windows_of_one_long_text_equal_those_by_hand() -> None:
    assert windows_of(stream_of(9), 4, 4) == [(0, 0, 4), (4, 4, 8), (8, 8, 10)]
    assert windows_of(stream_of(9), 4, 3) == [(0, 0, 4), (3, 4, 7), (6, 7, 10)]
    expected = [(0, 0, 4), (1, 4, 5), (2, 5, 6), (3, 6, 7), (4, 7, 8), (5, 8, 9), (6, 9, 10)]
    assert windows_of(stream_of(9), 4, 1) == expected


def test_a_window_ends_at_the_last_document_end_that_it_reaches() -> None:
    windows = windows_of(stream_of(2, 2, 9, 1), 7, 4)
    assert windows == [(0, 0, 6), (6, 6, 13), (10, 13, 16), (16, 16, 18)]


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batches_hold_the_tokens_and_only_the_scored_targets_of_each_window(
    batch_size: int,
) -> None:
    stream = stream_of(30, 3, 17)
    windows = windows_of(stream, 12, 5)
    expected = {
        (begin, stop): stream[before + 1 : stop + 1].tolist() for begin, before, stop in windows
    }
    seen = []
    for tokens, targets in window_batches(Split(stream, 1), 12, 5, batch_size, END):
        assert len(tokens) <= batch_size and tokens.shape == targets.shape
        for row, row_targets in zip(tokens.tolist(), targets, strict=True):
            places = (row_targets != IGNORE_INDEX).nonzero().flatten()
            assert (places.diff() == 1).all()
            values = row_targets[places].tolist()
            [(begin, stop)] = [
                span
                for span, scored in expected.items()
                if scored == values and row[: span[1] - span[0]] == stream[slice(*span)].tolist()
            ]
            assert int(places[-1]) == stop - begin - 1
            seen.append((begin, stop))
    assert sorted(seen) == sorted(expected)
    assert all(a < b for a, b in pairwise(sorted(seen)))


def test_with_stride_equal_to_context_batches_are_those_of_validation() -> None:
    split = Split(stream_of(30, 3, 17, 4, 4, 9), 1)
    ours = window_batches(split, 12, 12, 3, END)
    theirs = evaluation_batches(split, 12, 3, END)
    for (tokens, targets), (other_tokens, other_targets) in zip(ours, theirs, strict=True):
        assert torch.equal(tokens, other_tokens) and torch.equal(targets, other_targets)
