"""training/validation_curve.py: overfitting is noticed once, and healthy runs are left alone."""

import math
import random

import pytest

from training.progress import Metrics
from training.validation_curve import MIN_RISE, ValidationCurve


def log_of(val_losses: list[float], train_losses: list[float], every: int = 10) -> list[Metrics]:
    """The lines of a log: an evaluation every so many steps, and between two a training loss."""
    lines: list[Metrics] = [{"step": 0, "val_loss": val_losses[0]}]
    for k, (val_loss, train_loss) in enumerate(zip(val_losses[1:], train_losses, strict=True)):
        for step in range(k * every + 1, (k + 1) * every + 1):
            lines.append({"step": step, "train_loss": train_loss + 0.01 * math.sin(step)})
        lines[-1]["val_loss"] = val_loss
    return lines


def steps_of_notices(lines: list[Metrics]) -> list[int]:
    curve, noticed = ValidationCurve(), []
    for line in lines:
        curve.add(line)
        if "val_loss" in line and curve.overfits_since == line["step"]:
            noticed.append(int(line["step"]))
    return noticed


def test_a_rising_validation_loss_is_noticed_once_after_two_evaluations() -> None:
    lines = log_of([8, 5.0, 4.8, 4.9, 5.1, 5.4, 5.8], [6, 4.9, 4.0, 3.5, 3.0, 2.5])
    assert steps_of_notices(lines) == [40]
    curve = ValidationCurve(lines)
    assert (curve.best.step, curve.best.val_loss, curve.last.step) == (20, 4.8, 60)
    assert curve.overfits()
    assert "lowest at step 20, 4.8000 nats per token, and is 5.8000 at step 60" in curve.warning()


@pytest.mark.parametrize(
    ("val_losses", "train_losses"),
    [
        ([8, 5.0, 4.5, 4.2, 4.0], [6, 4.9, 4.4, 4.1]),  # still learning
        ([8, 4.0, 4.02, 3.98, 4.01, 4.02], [4.1, 4.05, 4.0, 3.9, 3.9]),  # noise at the plateau
        ([8, 5.0, 6.0, 7.0, 8.0], [5.0, 6.0, 7.0, 8.0]),  # diverging: both rise
        ([8, 5.0, 5.4, 4.6, 4.4], [6, 4.9, 4.5, 4.2]),  # one bad evaluation
        ([8, 5.0, 5.3], [6, 4.8]),  # too early to tell
        ([8], []),
        ([8, math.nan, math.inf, math.nan], [math.nan, 5, 4]),
    ],
)
def test_other_curves_are_not_called_overfitting(
    val_losses: list[float], train_losses: list[float]
) -> None:
    assert steps_of_notices(log_of(val_losses, train_losses)) == []


def test_a_finetuned_model_may_be_best_before_its_first_step() -> None:
    lines = log_of([3.0, 3.1, 3.4, 3.8], [2.5, 1.5, 0.8])
    assert steps_of_notices(lines) == [20]


def test_an_evaluation_that_is_best_again_ends_the_overfitting() -> None:
    curve = ValidationCurve(log_of([8, 5.0, 5.2, 5.3, 4.9], [6, 4.8, 4.6, 4.3]))
    assert curve.overfits_since == 30
    assert not curve.overfits() and curve.best.step == 40


def test_a_curve_read_from_its_log_is_the_curve_that_was_watched() -> None:
    """For 300 random walks: what a resumed run knows is what the run that went on knows."""
    random.seed(1)
    for _ in range(300):
        n = random.randint(1, 12)
        lines = log_of(
            [random.uniform(3, 4) for _ in range(n + 1)], [random.uniform(2, 3) for _ in range(n)]
        )
        cut = random.randrange(len(lines))
        watched, resumed = ValidationCurve(), ValidationCurve(lines[:cut])
        for line in lines:
            watched.add(line)
        for line in lines[cut:]:
            resumed.add(line)
        assert watched.evaluations == resumed.evaluations
        assert watched.overfits_since == resumed.overfits_since
        if watched.overfits():
            assert watched.last.val_loss - watched.best.val_loss > MIN_RISE
