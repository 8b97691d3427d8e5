"""Orders of training windows: every window once an epoch, whoever reads and from wherever."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.corpora import patient, write

from cfg_gpt2 import DataConfig
from data.windows import FullWindows, WindowOrder
from load_data import TrainingWindows, load_corpus

PROSE = "The fox asked where the drum was. It's in the barn, the hen said. " * 20

sizes = st.tuples(st.integers(1, 9), st.integers(0, 60)).map(lambda two: (two[0], sum(two) + 1))


def starts_of(order: WindowOrder, numbers: range) -> list[int]:
    return [order.window(number).start for number in numbers]


@patient
@given(sizes, st.integers(0, 2**40), st.integers(0, 3), st.integers(1, 5), st.integers(1, 7))
def test_all_ranks_together_read_every_window_of_an_epoch_once(
    size: tuple[int, int], seed: int, epoch: int, n_ranks: int, batch_size: int
) -> None:
    context_length, n_tokens = size
    tokens = np.arange(n_tokens, dtype=np.uint16)
    orders = [
        TrainingWindows(FullWindows(tokens, context_length, seed), context_length, 0)
        for _ in range(n_ranks)
    ]
    n_windows = (n_tokens - 1) // context_length
    read = []
    for first in range(0, (epoch + 1) * n_windows, batch_size):
        for rank, order in enumerate(orders):
            own = range(first + rank, first + batch_size, n_ranks)
            if own:
                x, y = order.batch(own[0], len(own), step=n_ranks)
                assert torch.equal(y, x + 1) and x.shape == (len(own), context_length)
                read += zip(own, x[:, 0].tolist(), strict=True)
    in_order = [start for _, start in sorted(read)]
    starts = sorted(in_order[epoch * n_windows : (epoch + 1) * n_windows])
    assert np.diff(starts).tolist() == [context_length] * (n_windows - 1)
    assert starts[0] + n_windows * context_length <= n_tokens - 1


def test_a_window_is_the_same_whoever_asks_and_whenever() -> None:
    order, other = (FullWindows(np.arange(1000), 7, seed=3) for _ in range(2))
    starts = starts_of(order, range(400))
    assert starts == starts_of(other, range(399, -1, -1))[::-1]
    assert {order.window(number).length for number in range(400)} == {7}
    first, second = starts[:142], starts[142:284]
    assert first != sorted(first) and sorted(first) != sorted(second)  # in order, and in phase


def test_ranks_of_a_small_text_read_what_one_process_reads(
    settings_of: Callable[..., DataConfig], tmp_path: Path
) -> None:
    corpus = load_corpus(settings_of(write(tmp_path / "a.txt", PROSE)))
    order = corpus.windows(16, 1)
    tokens, _ = order.batch(3, 8)
    halves = [order.batch(3 + rank, 4, step=2)[0] for rank in range(2)]
    assert torch.equal(tokens[0::2], halves[0]) and torch.equal(tokens[1::2], halves[1])
