"""training/schedule.py: the warm-up and both decays."""

from dataclasses import replace

import pytest

from cfg_gpt2 import TrainConfig
from training.schedule import learning_rate


def test_the_learning_rate_rises_linearly_and_decays_by_a_cosine() -> None:
    config = TrainConfig(max_steps=111, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    shorter = replace(config, max_steps=1, warmup_steps=0)
    assert learning_rate(0, shorter) == 1.0


def test_a_trapezoid_is_constant_and_then_decays_linearly() -> None:
    config = TrainConfig(
        max_steps=111, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1,
        schedule="trapezoid",
    )  # fmt: skip
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10:71] == [1.0] * 61
    assert rates[71:] == pytest.approx([1 - 0.9 * n / 40 for n in range(1, 41)])
