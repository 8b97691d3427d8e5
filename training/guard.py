"""The guard: optimizer steps that would harm the weights are skipped.

    bad    the loss or the gradient norm is not finite, or, where --train.skip-spikes asks for it,
           the loss lies more than that many standard deviations above its running mean
    spike  z = (loss - mean) / std > 6: logged, and taken unless --train.skip-spikes is lower

Mean and variance are exponential moving averages, so they follow the loss as it falls. The
decision needs the step's loss on the host, where the loop reads it anyway, before the optimizers
step.
Previous: optimizer.py.  Next: random_state.py.
"""

import math
from dataclasses import dataclass, field, replace

DECAY = 0.98  # of the moving averages, per step: they look back some 50 steps
WARM_UP = 20  # steps until the averages are worth something
SPIKE = 6.0  # standard deviations: a healthy run's batches stay below 4 or 5
MIN_STD = 0.01  # of the mean; on a flat loss the least change would be a spike otherwise
EPS = 1e-12  # nats; a mean of zero divides nothing


@dataclass(frozen=True, kw_only=True)
class GuardState:
    """The state of the guard between steps, as checkpoint.json holds it."""

    __pydantic_config__ = {"extra": "forbid"}

    n_seen: int = 0  # losses of steps that were taken
    mean: float = 0.0  # of these losses, nats per token
    variance: float = 0.0
    n_bad: int = 0  # steps that were skipped, one after the other, up to here
    returned_to: int | None = None  # the checkpoint's step that the last roll-back went to
    returned_from: int | None = None  # the step at which that was; logged once


@dataclass
class Guard:
    """Decides for each step whether it is taken."""

    skip_spikes: float | None  # z from which on a spike is skipped; None: all are taken
    state: GuardState = field(default_factory=GuardState)

    def check(self, loss: float, grad_norm: float) -> dict[str, float]:
        """Returns what metrics.jsonl gets about a step; with "skipped", the step is not taken.

        loss is the step's mean loss in nats per token.
        """
        state, flags = self.state, dict[str, float]()
        if state.returned_from is not None:
            flags["rolled_back_from"] = state.returned_from
            state = replace(state, returned_from=None)
        finite = math.isfinite(loss) and math.isfinite(grad_norm)
        z = self.z_score(loss) if finite else math.inf
        limit = math.inf if self.skip_spikes is None else self.skip_spikes
        if finite and z > min(SPIKE, limit):
            flags["spike"] = round(z, 1)
        if not finite or z > limit:
            self.state = replace(state, n_bad=state.n_bad + 1)
            return flags | {"skipped": True}
        self.state = replace(self.with_loss(state, loss), n_bad=0)
        return flags

    def record_rollback(self, to: int, since: int) -> None:
        """Records that the run has gone back from step `since` to the checkpoint of step `to`."""
        self.state = replace(self.state, returned_to=to, returned_from=since)

    def z_score(self, loss: float) -> float:
        """Returns how many standard deviations a loss lies above the running mean.

        It is 0 in the first WARM_UP steps.
        """
        if self.state.n_seen < WARM_UP:
            return 0.0
        return (loss - self.state.mean) / self.std()

    def std(self) -> float:
        """Returns the running standard deviation, in nats per token."""
        return max(math.sqrt(self.state.variance), MIN_STD * abs(self.state.mean), EPS)

    def with_loss(self, state: GuardState, loss: float) -> GuardState:
        """Returns the state after a step that was taken; a spike counts as z = SPIKE."""
        if state.n_seen == 0:
            return replace(state, n_seen=1, mean=loss)
        if state.n_seen >= WARM_UP:
            loss = min(loss, state.mean + SPIKE * self.std())
        weight = max(1 - DECAY, 1 / (state.n_seen + 1))  # at first a plain mean
        difference = loss - state.mean
        mean = state.mean + weight * difference
        variance = (1 - weight) * (state.variance + weight * difference * difference)
        return replace(state, n_seen=state.n_seen + 1, mean=mean, variance=variance)


def describe_flags(flags: dict[str, float]) -> str:
    """Returns a sentence about what `Guard.check` returned for a step."""
    spike = f"the loss lies {flags.get('spike')} standard deviations above its running mean"
    reason = spike if "spike" in flags else "the loss or the gradient is not finite"
    return reason + ": not taken" if "skipped" in flags else reason
