"""Streams of tokens: parts read as one array, and the boundaries of documents."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.corpora import patient

from data.stream import Stream, document_boundaries, slice_stream, token_dtype


@patient
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_a_stream_is_its_parts_end_to_end(lengths: list[int], start: int, stop: int) -> None:
    numbers = np.arange(sum(lengths))
    stream = Stream(np.split(numbers, np.cumsum(lengths)[:-1]))
    assert len(stream) == len(numbers)
    assert stream[start:stop].tolist() == numbers[start:stop].tolist()
    if numbers[start:stop].size:
        for tokens in (stream, numbers):
            part = slice_stream(tokens, start, min(stop, len(numbers)))
            assert part[:].tolist() == numbers[start:stop].tolist()


def test_document_boundaries_are_found_in_every_part_of_a_long_stream() -> None:
    tokens = np.array(random.Random(1).choices(range(10), k=2000), dtype=np.uint16)
    expected = [place for place, id in enumerate(tokens.tolist()) if id == 0]
    for stream in (tokens, Stream(np.array_split(tokens, 7))):
        assert document_boundaries(stream, 0, scan_tokens=64).tolist() == expected


@pytest.mark.parametrize(("vocab_size", "bits"), [(257, 16), (65_536, 16), (65_537, 32)])
def test_ids_have_16_bits_while_those_hold_all(vocab_size: int, bits: int) -> None:
    assert token_dtype(vocab_size) == np.dtype(f"u{bits // 8}")
