"""The guard: steps that would harm the weights are not taken.

    bad    the loss or the length of the gradient is not finite, or, where that was asked for,
           the loss lies more than Z standard deviations above its running mean
    spike  z = (loss - mean) / std > 6: noted, and taken unless Z says otherwise

Mean and variance forget exponentially, so they follow the loss as it falls. The decision needs the
step's loss on the host, where the loop brings it anyway, before the optimizers move.
"""

import math
from dataclasses import dataclass, field
from dataclasses import replace as changed

MEMORY = 0.98  # of the mean and the variance, a step: they look back some 50 steps
WARM_UP = 20  # steps until they are worth something
SPIKE = 6.0  # standard deviations: a healthy run's batches stay below 4 or 5
SMALLEST = 0.01  # of the mean: the least standard deviation; on a flat loss any tick would spike
TINY = 1e-12  # nats; a mean of zero divides nothing


@dataclass(frozen=True, kw_only=True)
class GuardState:
    """What the guard remembers from step to step."""

    __pydantic_config__ = {"extra": "forbid"}

    n_seen: int = 0  # losses of steps that were taken
    mean: float = 0.0  # of these losses, nats a token
    variance: float = 0.0
    n_bad: int = 0  # steps not taken, one after the other, up to here
    returned_to: int | None = None  # the checkpoint's step that the last roll-back went to
    returned_from: int | None = None  # the step at which that was; noted once, in metrics.jsonl


@dataclass
class Guard:
    """Judges each step before it is taken."""

    skip_spikes: float | None  # z from which on a spike is not taken; None: all are taken
    state: GuardState = field(default_factory=GuardState)

    def judge(self, loss: float, grad_norm: float) -> dict[str, float]:
        """A step's mean loss and gradient length -> what to note; "skipped": do not take it."""
        state, notes = self.state, dict[str, float]()
        if state.returned_from is not None:
            notes["rolled_back_from"] = state.returned_from
            state = changed(state, returned_from=None)
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        z = self.z_score(loss) if finite else math.inf
        limit = math.inf if self.skip_spikes is None else self.skip_spikes
        if finite and z > min(SPIKE, limit):
            notes["spike"] = round(z, 1)
        if not finite or z > limit:
            self.state = changed(state, n_bad=state.n_bad + 1)
            return notes | {"skipped": True}
        self.state = changed(self.with_loss(state, loss), n_bad=0)
        return notes

    def note_return(self, to: int, since: int) -> None:
        """The run has gone back from step `since` to the checkpoint of step `to`."""
        self.state = changed(self.state, returned_to=to, returned_from=since)

    def z_score(self, loss: float) -> float:
        """Standard deviations above the running mean; 0 while that is young."""
        if self.state.n_seen < WARM_UP:
            return 0.0
        return (loss - self.state.mean) / self.spread()

    def spread(self) -> float:
        """The running standard deviation, nats a token."""
        return max(math.sqrt(self.state.variance), SMALLEST * abs(self.state.mean), TINY)

    def with_loss(self, state: GuardState, loss: float) -> GuardState:
        """The state after a step that was taken. A spike counts as the highest that is none."""
        if state.n_seen == 0:
            return changed(state, n_seen=1, mean=loss)
        if state.n_seen >= WARM_UP:
            loss = min(loss, state.mean + SPIKE * self.spread())
        share = max(1 - MEMORY, 1 / (state.n_seen + 1))  # at first a plain mean
        ahead = loss - state.mean
        mean = state.mean + share * ahead
        variance = (1 - share) * (state.variance + share * ahead * ahead)
        return changed(state, n_seen=state.n_seen + 1, mean=mean, variance=variance)


def describe(notes: dict[str, float]) -> str:
    """What the guard has noted of a step, in words."""
    spike = f"the loss lies {notes.get('spike')} standard deviations above its running mean"
    reason = spike if "spike" in notes else "the loss or the gradient is not finite"
    return reason + ": not taken" if "skipped" in notes else reason
