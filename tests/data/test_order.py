"""The order of windows: every number once, each place found at once, shares met exactly."""

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.corpora import patient

from data.order import MixtureSchedule, Permutation


def numbers_of(order: Permutation) -> list[int]:
    return [order[place] for place in range(len(order))]


@patient
@given(st.integers(1, 3000), st.integers(-5, 2**70), st.integers(0, 2**40))
def test_a_permutation_has_every_number_once(n: int, seed: int, epoch: int) -> None:
    assert sorted(numbers_of(Permutation(n, seed, epoch))) == list(range(n))


@patient
@given(st.integers(10**9, 10**15), st.integers(0, 9))
def test_a_place_among_billions_is_found_at_once(n: int, seed: int) -> None:
    order = Permutation(n, seed)
    places = [order[place] for place in range(200)]
    assert len(set(places)) == 200 and all(0 <= place < n for place in places)
    # 200 draws without order: their mean is within 5 standard deviations of the middle
    assert abs(sum(places) / 200 / n - 0.5) < 5 / math.sqrt(12 * 200)


def test_beyond_its_end_there_is_nothing() -> None:
    for place in (-1, 7):
        with pytest.raises(IndexError):
            Permutation(7, 1)[place]


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13])
def test_every_number_is_as_likely_in_every_place(n: int) -> None:
    draws = 3000
    seen = [Counter[int]() for _ in range(n)]
    for epoch in range(draws):
        for place, number in enumerate(numbers_of(Permutation(n, 1, epoch))):
            seen[place][number] += 1
    expected = draws / n
    spread = 5 * math.sqrt(expected * (1 - 1 / n))  # 5 standard deviations
    assert all(abs(counts[k] - expected) < spread for counts in seen for k in range(n))


def test_neighbours_in_the_text_are_not_neighbours_in_the_order() -> None:
    n = 10_000
    order = numbers_of(Permutation(n, 3, 0))
    steps = [(b - a) % n for a, b in pairwise(order)]
    assert max(Counter(steps).values()) < 12  # of 9,999 steps: one each on average


weights = st.lists(st.integers(1, 99).map(lambda n: n / 10), min_size=1, max_size=5)


@patient
@given(weights, st.integers(1, 500))
def test_each_source_gets_its_share_at_every_moment(weights: list[float], n_windows: int) -> None:
    schedule = MixtureSchedule(weights)
    total = sum(Fraction(str(weight)) for weight in weights)
    counts = [0] * len(weights)
    for number in range(n_windows):
        source, place = schedule.source(number)
        assert place == counts[source]  # its windows one after the other, none left out
        counts[source] += 1
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - (number + 1) * Fraction(str(weight)) / total) < len(weights)
    assert schedule.counts(n_windows) == counts


def test_shares_are_exact_far_away() -> None:
    schedule = MixtureSchedule([0.7, 0.3])
    assert schedule.counts(10**18) == [7 * 10**17, 3 * 10**17]
    assert Counter(schedule.source(10**18 + k)[0] for k in range(10)) == {0: 7, 1: 3}
