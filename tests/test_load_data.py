"""From token files to batches: every target once, every document whole where it fits."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.corpora import (
    PROSE,
    RUSSIAN,
    all_text,
    data_config,
    documents,
    load_in_chunks,
    patient,
    write,
)

from cfg_gpt2 import DataConfig
from data.windows import Window
from load_data import (
    DocumentWindows,
    Split,
    TrainingWindows,
    collate,
    evaluation_batches,
    load_corpus,
)
from loss import IGNORE_INDEX
from tokenizer import END_OF_TEXT

NO_BOUNDARY = 60_000  # an end-of-text token that the stream does not have


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., DataConfig]:
    """Paths and data settings -> a DataConfig with a cache of its own."""
    return partial(data_config, tmp_path / "cache")


# From text to a corpus


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
@pytest.mark.parametrize("text", [PROSE, RUSSIAN], ids=["english", "russian"])
def test_a_text_comes_back_from_its_token_files(
    text: str, tokenizer: str, settings_of: Callable[..., DataConfig], tmp_path: Path
) -> None:
    config = settings_of(write(tmp_path / "book.txt", text), tokenizer=tokenizer)
    corpus = load_in_chunks(config, chunk_bytes=100, batch_characters=250)
    train, validation = documents(corpus, corpus.train), documents(corpus, corpus.validation)
    assert "".join(train + validation) == text
    assert (len(train), len(validation)) == (1, 1)
    assert corpus.train.n_bytes == len(train[0].encode())
    assert corpus.validation.n_bytes == len(validation[0].encode())
    assert corpus.train.tokens[:].dtype == np.uint16
    assert corpus.floor_bits_per_byte is None


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_a_typed_end_of_text_stays_text(
    tokenizer: str, settings_of: Callable[..., DataConfig], tmp_path: Path
) -> None:
    text = f"one{END_OF_TEXT}two " * 30
    corpus = load_corpus(settings_of(write(tmp_path / "book.txt", text), tokenizer=tokenizer))
    assert all_text(corpus) == text


def test_a_text_shorter_than_a_window_is_refused_with_both_numbers(
    settings_of: Callable[..., DataConfig], tmp_path: Path
) -> None:
    corpus = load_corpus(settings_of(write(tmp_path / "ten.txt", "0123456789"), tokenizer="char"))
    with pytest.raises(ValueError, match=r"has 11 tokens.* 64 needs 65; .*context-length 10$"):
        corpus.windows(64, 1)
    tokens, targets = corpus.windows(10, 1).batch(0, 1)
    assert (tokens[0, 1:].tolist(), targets[0, -1]) == (targets[0, :-1].tolist(), tokens[0, 0])


def test_a_corpus_gives_the_evaluation_batches_of_its_validation_text(
    settings_of: Callable[..., DataConfig], tmp_path: Path
) -> None:
    corpus = load_corpus(settings_of(write(tmp_path / "book.txt", PROSE)))
    own = list(corpus.evaluation_batches(7, batch_size=3))
    end_of_text = corpus.tokenizer.end_of_text
    expected = list(evaluation_batches(corpus.validation, 7, 3, end_of_text))
    assert len(own) == len(expected) > 1
    for (tokens, targets), (others, wanted) in zip(own, expected, strict=True):
        assert torch.equal(tokens, others) and torch.equal(targets, wanted)


# Windows of training


def numbers(n_tokens: int) -> np.ndarray:
    """A stream in which every token is its own position, so that a window shows its place."""
    return np.arange(n_tokens, dtype=np.uint16)


def span_of(order: DocumentWindows, number: int) -> tuple[int, int]:
    """The positions of the first token and of the last target of a window."""
    _, start, length = order.window(number)
    return start, start + length


def spans_of_epoch(order: DocumentWindows, epoch: int) -> list[tuple[int, int]]:
    """All windows of an epoch, in the order in which they are read."""
    spans: list[tuple[int, int]] = []
    for number in range(10_000):
        span = span_of(order, number)
        if order.epoch > epoch:
            return spans
        spans += [span] * (order.epoch == epoch)
    raise AssertionError("an epoch without an end")


sizes = st.tuples(st.integers(1, 9), st.integers(0, 60)).map(lambda two: (two[0], sum(two) + 1))


@patient
@given(sizes, st.integers(-5, 2**40), st.integers(0, 3))
def test_an_epoch_covers_each_window_once_and_no_token_twice(
    size: tuple[int, int], seed: int, epoch: int
) -> None:
    context_length, n_tokens = size
    order = DocumentWindows(numbers(n_tokens), context_length, seed, NO_BOUNDARY)
    spans = sorted(spans_of_epoch(order, epoch))
    assert [stop for _, stop in spans[:-1]] == [start for start, _ in spans[1:]]
    assert all(stop - start == context_length for start, stop in spans[:-1])
    assert spans[0][0] < context_length and spans[-1][1] == n_tokens - 1


@patient
@given(sizes, st.integers(0, 9), st.integers(0, 40), st.integers(1, 20))
def test_a_batch_holds_the_windows_of_its_numbers_and_their_targets(
    size: tuple[int, int], seed: int, first: int, count: int
) -> None:
    context_length, n_tokens = size
    order = DocumentWindows(numbers(n_tokens), context_length, seed, NO_BOUNDARY)
    tokens, targets = TrainingWindows(order, context_length, NO_BOUNDARY).batch(first, count)
    assert tokens.shape == targets.shape == (count, context_length)
    assert tokens.dtype == targets.dtype == torch.int64
    counts = targets != IGNORE_INDEX
    assert torch.equal(targets[counts], tokens[counts] + 1)
    assert (tokens[~counts] == NO_BOUNDARY).all()
    for row, number in enumerate(range(first, first + count)):
        start, stop = span_of(order, number)
        assert targets[row][counts[row]].tolist() == list(range(start + 1, stop + 1))


@patient
@given(st.integers(0, 200), st.integers(1, 60), st.integers(0, 300))
def test_a_window_depends_on_its_number_and_the_seed_alone(
    first: int, count: int, elsewhere: int
) -> None:
    at_once, resumed = (
        TrainingWindows(DocumentWindows(numbers(100), 7, 3, NO_BOUNDARY), 7, NO_BOUNDARY)
        for _ in range(2)
    )
    resumed.batch(elsewhere, 2)
    whole, _ = at_once.batch(first, count)
    rows = [resumed.batch(number, 1)[0] for number in reversed(range(first, first + count))]
    assert torch.equal(whole, torch.cat(rows[::-1]))


def test_epochs_and_seeds_differ_in_order_and_in_phase() -> None:
    order = DocumentWindows(numbers(10 * 7), 7, 1, NO_BOUNDARY)
    epochs = [spans_of_epoch(order, epoch) for epoch in range(50)]
    assert len(set(map(tuple, epochs))) == 50
    assert {min(spans)[0] for spans in epochs} == set(range(7))
    assert spans_of_epoch(DocumentWindows(numbers(70), 7, 2, NO_BOUNDARY), 0) != epochs[0]


@patient
@given(st.lists(st.integers(1, 7), min_size=10, max_size=30), st.integers(0, 5))
def test_windows_begin_where_documents_begin_when_all_documents_fit(
    lengths: list[int], seed: int
) -> None:
    tokens = stream_of(lengths)
    order = DocumentWindows(tokens, 8, seed, end_of_text=0)
    first, *others = sorted(spans_of_epoch(order, 0))
    assert all(tokens[start] == tokens[stop] == 0 for start, stop in others)
    assert tokens[first[1]] == 0


def stream_of(lengths: list[int]) -> np.ndarray:
    """Documents of these lengths; 0 is the end of text, other tokens count on."""
    ids = [0]
    for length in lengths:
        ids += [*range(len(ids) + 1, len(ids) + 1 + length), 0]
    return np.array(ids, dtype=np.uint16)


def test_windows_of_a_bucket_are_sorted_by_length_and_none_is_lost() -> None:
    generator = np.random.default_rng(0)
    tokens = stream_of(generator.integers(1, 60, size=2000).tolist())
    spans = DocumentWindows(tokens, 64, 1, end_of_text=0).spans
    lengths = (spans[:, 1] - spans[:, 0])[: len(spans) // 64 * 64].reshape(-1, 64)
    assert (np.diff(lengths, axis=1) >= 0).all()
    first = spans[:, 0].tolist()
    assert len(set(first)) == len(first)
    assert sorted(first) != first  # buckets are shuffled
    ends = dict(spans.tolist())
    n_linked, here = 0, min(first)
    while here in ends:
        here, n_linked = ends[here], n_linked + 1
    assert n_linked == len(spans) and here == len(tokens) - 1


# Windows of evaluation


lengths = st.lists(st.integers(1, 30), min_size=1, max_size=20)


@patient
@given(lengths, st.integers(1, 20), st.integers(1, 5))
def test_evaluation_reads_every_target_once_behind_its_token(
    lengths: list[int], context_length: int, batch_size: int
) -> None:
    split = Split(stream_of(lengths), 1)
    read = []
    for tokens, targets in evaluation_batches(split, context_length, batch_size, 0):
        assert tokens.shape == targets.shape and tokens.dtype == targets.dtype == torch.int64
        counts = targets != IGNORE_INDEX
        longest = int(counts.sum(dim=1).max())
        rounded = min(context_length, math.ceil(longest / 16) * 16)
        assert tokens.shape[0] <= batch_size and tokens.shape[1] == rounded
        assert counts[:, 0].all() and (counts[:, 1:] <= counts[:, :-1]).all()  # padding comes last
        assert (tokens[~counts] == 0).all()
        read += zip(tokens[counts].tolist(), targets[counts].tolist(), strict=True)
    stream = split.tokens[:].tolist()
    assert sorted(read) == sorted(pairwise(stream))  # each holds an id that occurs once


@patient
@given(lengths, st.integers(1, 20))
def test_evaluation_reads_each_document_that_fits_whole_and_from_its_start(
    lengths: list[int], context_length: int
) -> None:
    split = Split(stream_of(lengths), 1)
    batches = evaluation_batches(split, context_length, 4, end_of_text=0)
    rows = [row for tokens, _ in batches for row in tokens.tolist()]
    start = 0
    for length in lengths:
        document = [0, *range(start + 2, start + 2 + length)]
        start += length + 1
        if len(document) <= context_length:
            window = next(row for row in rows if document[1] in row)
            place = window.index(document[1]) - 1
            assert window[place : place + len(document)] == document
        else:
            assert any(row[:2] == document[:2] for row in rows) or context_length == 1


def test_one_long_text_is_evaluated_in_full_windows_end_to_end() -> None:
    stream = stream_of([99])
    [(tokens, targets)] = evaluation_batches(Split(stream, 1), 25, 10, end_of_text=0)
    assert tokens.flatten().tolist() == stream.tolist()[:-1]
    assert targets.flatten().tolist() == stream.tolist()[1:]


def test_documents_that_fill_a_window_exactly_share_it() -> None:
    [(tokens, _)] = evaluation_batches(Split(stream_of([3, 4]), 1), 9, 10, end_of_text=0)
    assert tokens.shape == (1, 9)


# Batches


def test_a_batch_by_hand() -> None:
    stream = np.array([0, 11, 12, 13, 0, 21, 0], dtype=np.uint16)
    windows = [Window(stream, 0, 4), Window(stream, 4, 2)]
    tokens, targets = collate(windows, context_length=4, end_of_text=0)
    assert tokens.tolist() == [[0, 11, 12, 13], [0, 21, 0, 0]]
    assert targets.tolist() == [[11, 12, 13, 0], [21, 0, IGNORE_INDEX, IGNORE_INDEX]]
