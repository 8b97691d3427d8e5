"""ValidationCurve: where the validation loss was best, and whether a run overfits.

A model that learns a text by heart goes on lowering its training loss, while its loss on the text
that it has not seen rises. The best weights are then those of an earlier checkpoint.
Previous: units.py.  Next: tensorboard_log.py.
"""

import math
from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple

from training.progress import Metrics
from training.units import OF_TEXT

PATIENCE = 2  # evaluations in a row that are worse than the best one
MIN_RISE = 0.05  # nats per token of the last evaluation above the best one; noise is smaller


class Evaluation(NamedTuple):
    """The validation loss at a step, and the mean training loss of the steps before it."""

    step: int
    val_loss: float  # nats per token, or what training/units.py says
    train_loss: float  # since the evaluation before; nan before the first step


class ValidationCurve:
    """The evaluations of a run, read from the lines of its log."""

    def __init__(self, lines: Iterable[Metrics] = ()) -> None:
        self.evaluations: list[Evaluation] = []
        self.overfits_since: int | None = None  # the step at which that first showed
        self._train_losses: list[float] = []
        for line in lines:
            self.add(line)

    def add(self, metrics: Metrics) -> None:
        """Adds a line of the log. Losses that are not finite do not count."""
        train_loss, val_loss = metrics.get("train_loss"), metrics.get("val_loss")
        if train_loss is not None and math.isfinite(train_loss):
            self._train_losses.append(train_loss)
        if val_loss is None or not math.isfinite(val_loss):
            return
        mean = fmean(self._train_losses) if self._train_losses else math.nan
        self.evaluations.append(Evaluation(int(metrics["step"]), val_loss, mean))
        self._train_losses.clear()
        if self.overfits_since is None and self.overfits(PATIENCE):
            self.overfits_since = self.last.step

    @property
    def best(self) -> Evaluation:
        """The evaluation with the lowest validation loss, the first of several."""
        return min(self.evaluations, key=lambda evaluation: evaluation.val_loss)

    @property
    def last(self) -> Evaluation:
        """The newest evaluation."""
        return self.evaluations[-1]

    def overfits(self, patience: int = 1) -> bool:
        """Returns whether the validation loss is above its best while the training loss fell.

        patience: evaluations since the best one, at least.
        """
        if len(self.evaluations) <= patience:
            return False
        best, last = self.best, self.last
        before = self.evaluations[1] if best.step == 0 else best  # at step 0 nothing was learned
        return (
            best in self.evaluations[:-patience]
            and last.val_loss > best.val_loss + MIN_RISE
            and last.train_loss < before.train_loss
        )

    def warning(self, unit: str = OF_TEXT.loss) -> str:
        """Returns a line that says, in the midst of a run, that it overfits; unit: of its loss."""
        return (
            f"overfitting: {self.describe(unit)}, while the training loss falls; "
            f"Ctrl-C ends the run, and {self.advice()}"
        )

    def hint(self, unit: str = OF_TEXT.loss) -> str | None:
        """Returns a sentence at the end of a run where an earlier step was better; else None."""
        if not self.evaluations or self.best.val_loss >= self.last.val_loss:
            return None
        where = self.describe(unit)
        beginning = f"Overfitting: {where}" if self.overfits() else where
        return f"{beginning[0].upper()}{beginning[1:]}; {self.advice()}."

    def describe(self, unit: str) -> str:
        """Returns where the validation loss was best and what it is at the end, as a clause."""
        return (
            f"the validation loss was lowest at step {self.best.step}, {self.best.val_loss:.4f} "
            f"{unit}, and is {self.last.val_loss:.4f} at step {self.last.step}"
        )

    def advice(self) -> str:
        """Returns how the best weights that were saved are used, as a clause."""
        saved = min((e for e in self.evaluations if e.step > 0), key=lambda e: e.val_loss)
        return f"--best takes the weights of step {saved.step}, which are kept"
