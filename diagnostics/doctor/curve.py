"""Diagnosis: a fault of a run, or something to know about it, read from the run's curve.

The losses of single batches are noisy, so the curve is compared in tenths of the run: the mean
loss of the first tenth, of the last, of the lowest. Each threshold is a constant with its reason.
Previous: russian.py.  Next: finetuned.py.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Literal

from cfg_gpt2 import RunConfig, TrainConfig, require
from load_data import load_corpus
from run_directory.chat_template import CHAT_FILE
from run_directory.config_file import read_config
from run_directory.json_file import read_json_as
from run_directory.paths import require_file
from run_directory.printable import main_command
from training.guard import Guard
from training.progress import METRICS_FILE, Metrics, MetricsLog
from training.units import OF_METHODS, Units, units_of
from training.validation_curve import MIN_RISE

# Fresh weights of N(0, 0.02) guess evenly: ln V, and up to 0.3 more where the model is wide.
MAX_INITIAL_EXCESS = 1.0  # nats per token
MIN_STEPS = 20  # a shorter curve is mostly noise
# A tenth of a run above its lowest tenth: noise and the text make 0.1, not more.
MAX_RISE = 0.3  # nats per token
# A model that learns anything learns the frequencies of the tokens, which are worth far more.
MIN_FALL = 0.05  # of the first loss
# From the next to last fifth to the last one. A curve at its plateau falls by less, and with a
# falling learning rate the end of any good run gains a few percent.
STILL_FALLING = 0.08  # of the loss
# A token's loss has a standard deviation of some 3 nats, so the mean of 1,000 is known to 0.1.
MIN_VALIDATION_TOKENS = 1_000
EXPLODING = 100.0  # times the median gradient norm: a batch like that undoes many steps
# The gradient of a mean loss has a norm of about 0.1 to 3, over all weights together.
VANISHING = 1e-4
ALWAYS_CLIPPED = 0.95  # of the steps after the warm-up
FAR_FROM_FLOOR = 0.25  # the default run ends 0.04 above it, and passes 0.25 in its first half
N_PARTS = 10


@dataclass(frozen=True)
class Diagnosis:
    """The name of a text, the figures in it, and whether it is a fault or only worth knowing."""

    name: str
    values: dict[str, str] = field(default_factory=dict)
    wrong: bool = True


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """What chat.json says of how a run was finetuned."""

    method: Literal["sft", "lora", "dpo", "reward", "import"]
    base: str  # the run whose weights it began with
    base_sha256: str  # of these weights
    data: tuple[str, ...]
    replay: float = 0.0  # the share of what was learned that came from the base's own text


@dataclass(frozen=True)
class Run:
    """The settings and the metrics of a run directory; finetuning: None where there was none."""

    path: Path
    config: RunConfig
    lines: list[Metrics]
    finetuning: Finetuning | None = None

    @cached_property
    def steps(self) -> list[Metrics]:
        """The lines of optimizer steps with a finite training loss."""
        return [m for m in self.lines if "train_loss" in m and math.isfinite(m["train_loss"])]

    @cached_property
    def tenths(self) -> list[float]:
        """The mean training loss of each tenth of the steps, in nats per token."""
        losses, n = [m["train_loss"] for m in self.steps], len(self.steps)
        cuts = [n * i // N_PARTS for i in range(N_PARTS + 1)]
        return [fmean(losses[a:b]) for a, b in itertools.pairwise(cuts) if b > a]

    @cached_property
    def evaluations(self) -> list[Metrics]:
        """The lines with a finite validation loss."""
        return [m for m in self.lines if "val_loss" in m and math.isfinite(m["val_loss"])]

    @cached_property
    def floors(self) -> list[tuple[float, float]]:
        """The validation loss of each evaluation beside the text's entropy, in bits per byte."""
        names = ("val_bits_per_byte", "floor_bits_per_byte")
        pairs = [tuple(m.get(name, 0.0) for name in names) for m in self.evaluations]
        return [(bits, floor) for bits, floor in pairs if bits > 0 and floor > 0]

    @cached_property
    def units(self) -> Units:
        """What the losses stand for."""
        return units_of(self.path)

    @property
    def train(self) -> TrainConfig:
        """The training settings of the run."""
        return self.config.train


Check = Callable[[Run], Diagnosis | None]


def read_run(path: Path) -> Run:
    """Reads config.json and metrics.jsonl of a run directory.

    Raises FileNotFoundError or ValueError where it is no run, or has not begun.
    """
    config = read_config(path)
    file = path / METRICS_FILE
    require_file(file, "train first, or name another run")
    lines = MetricsLog(path).read()
    require(len(lines) > 0, f"{file} is empty; train first, or name another run")
    chat = path / CHAT_FILE
    finetuning = read_json_as(Finetuning, chat) if chat.exists() else None
    is_own = finetuning and finetuning.method in OF_METHODS  # one that was imported is not
    return Run(path, config, lines, finetuning if is_own else None)


def diagnose(run: Run, checks: Sequence[Check] | None = None) -> list[Diagnosis]:
    """Returns every diagnosis of a run; none for a healthy one. checks: None: of a text."""
    diagnoses = [check(run) for check in checks or CHECKS]
    return [diagnosis for diagnosis in diagnoses if diagnosis]


# One function per diagnosis -----------------------------------------------------------------


def initial_loss(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where fresh weights have a higher loss than a uniform guess."""
    first, uniform = run.lines[0].get("val_loss"), math.log(run.config.model.vocab_size)
    if run.lines[0]["step"] != 0 or first is None or first <= uniform + MAX_INITIAL_EXCESS:
        return None
    return Diagnosis("initial_loss", {"loss": f"{first:.2f}", "uniform": f"{uniform:.2f}"})


def not_finite(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where a loss or a gradient is nan or infinite."""
    bad = [
        m
        for m in run.lines
        if any(not math.isfinite(m.get(name, 0.0)) for name in ("train_loss", "grad_norm"))
        or ("skipped" in m and "spike" not in m)
    ]
    if not bad:
        return None
    values = {"n": str(len(bad)), "step": str(bad[0]["step"])}
    return Diagnosis("not_finite", values | lower_rate(run))


def learning_rate_too_high(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the loss rose above its lowest tenth or above its start."""
    if len(run.steps) < MIN_STEPS:
        return None
    first, last = run.steps[0]["train_loss"], run.tenths[-1]
    lowest, highest = min(run.tenths), max(run.tenths)
    if last <= lowest + MAX_RISE and highest <= first + MAX_RISE:
        return None
    measured = {"first": first, "lowest": lowest, "highest": highest, "last": last}
    values = {name: f"{loss:.2f}" for name, loss in measured.items()} | {"unit": run.units.loss}
    values |= lower_rate(run)
    return Diagnosis("diverged" if last > first else "rate_too_high", values)


def learning_rate_too_low(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the loss has hardly fallen after many steps."""
    if len(run.steps) < MIN_STEPS or learning_rate_too_high(run):
        return None
    first, last = run.steps[0]["train_loss"], run.tenths[-1]
    if not first * (1 - MIN_FALL) < last <= first:
        return None
    rate, default = run.train.learning_rate, 0 if run.finetuning else TrainConfig().learning_rate
    values = {"first": f"{first:.2f}", "last": f"{last:.2f}", "unit": run.units.loss}
    values |= {"rate": f"{rate:g}", "try": f"{max(default, 10 * rate):g}"}
    return Diagnosis("rate_too_low", values)


def spikes(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where single batches have a far higher loss than others."""
    guard, deviations = Guard(skip_spikes=None), []
    for metrics in run.steps:
        notes = guard.check(metrics["train_loss"], metrics.get("grad_norm", 0.0))
        if z := metrics.get("spike", notes.get("spike")):
            deviations.append((z, metrics["step"]))
    if not deviations:
        return None
    z, step = max(deviations)
    return Diagnosis("spikes", {"n": str(len(deviations)), "step": str(step), "z": f"{z:.0f}"})


def overfitting(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the validation loss rose while the training loss stayed below."""
    if len(run.evaluations) < 3 or len(run.steps) < MIN_STEPS or learning_rate_too_high(run):
        return None
    best = min(run.evaluations, key=lambda m: m["val_loss"])
    last = run.evaluations[-1]
    excess = last["val_loss"] - best["val_loss"]
    if excess <= MIN_RISE or run.tenths[-1] >= last["val_loss"]:
        return None
    dropout = run.config.model.dropout
    values = {
        "best": f"{best['val_loss']:.2f}",
        "step": str(max(1, int(best["step"]))),
        "last": f"{last['val_loss']:.2f}",
        "train": f"{run.tenths[-1]:.2f}",
        "unit": run.units.loss,
        "dropout": f"{0.1 if dropout < 0.1 else min(0.5, 2 * dropout):g}",
    }
    return Diagnosis("overfitting", values)


def validation_split(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the validation split is too small to measure a loss on."""
    try:
        corpus = load_corpus(run.config.data)
    except (ValueError, OSError) as error:
        return Diagnosis("data_unreadable", {"why": " ".join(str(error).split())}, wrong=False)
    n_tokens = len(corpus.validation.tokens) - 1  # the first one is no target
    if n_tokens >= MIN_VALIDATION_TOKENS:
        return None
    n_all = n_tokens + len(corpus.train.tokens)
    share = min(0.5, math.ceil(100 * MIN_VALIDATION_TOKENS / n_all) / 100)
    values = {"n": str(n_tokens), "enough": str(MIN_VALIDATION_TOKENS), "share": f"{share:g}"}
    return Diagnosis("validation_tiny", values)


def gradients_vanish(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the gradient norms vanish."""
    norms = warm_norms(run)
    if len(norms) < MIN_STEPS or median(norms) >= VANISHING:
        return None
    return Diagnosis("gradients_vanish", {"median": f"{median(norms):.2g}"})


def gradients_explode(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where single gradient norms explode."""
    norms = warm_norms(run)
    if len(norms) < MIN_STEPS or median(norms) < VANISHING:
        return None
    if max(norms) <= EXPLODING * median(norms):
        return None
    values = {"median": f"{median(norms):.2g}", "largest": f"{max(norms):.2g}"}
    return Diagnosis("gradients_explode", values | lower_rate(run))


def warm_norms(run: Run) -> list[float]:
    """Returns the finite gradient norms after the warm-up, in which large ones are usual."""
    warm = run.train.warmup_steps
    norms = [m["grad_norm"] for m in run.steps if m["step"] > warm and "grad_norm" in m]
    return [norm for norm in norms if math.isfinite(norm)]


def always_clipped(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where nearly every gradient is clipped."""
    limit, norms = run.train.grad_clip, warm_norms(run)
    if not limit or len(norms) < MIN_STEPS:
        return None
    if sum(norm > limit for norm in norms) < ALWAYS_CLIPPED * len(norms):
        return None
    values = {"limit": f"{limit:g}", "median": f"{median(norms):.2g}"}
    return Diagnosis("always_clipped", values | {"try": f"{2 * median(norms):.2g}"}, wrong=False)


def stopped_early(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the last step is not --train.max-steps."""
    step, max_steps = int(run.lines[-1]["step"]), run.train.max_steps
    if step >= max_steps:
        return None
    command = main_command("finetune" if run.finetuning else "train", "--resume", run.path)
    values = {"step": str(step), "max_steps": str(max_steps), "command": command}
    return Diagnosis("stopped_early", values, wrong=False)


def still_falling(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the loss still fell in the last fifth of the run."""
    tenths, others = run.tenths, (stopped_early, learning_rate_too_low, overfitting)
    if len(tenths) < N_PARTS or any(check(run) for check in others):
        return None
    before, last = fmean(tenths[-4:-2]), fmean(tenths[-2:])
    if before - last <= STILL_FALLING * before:
        return None
    values = {"before": f"{before:.2f}", "last": f"{last:.2f}"}
    return Diagnosis("still_falling", values | {"try": str(2 * run.train.max_steps)}, wrong=False)


def far_from_floor(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the loss is far above the entropy floor of a built-in world."""
    if not run.floors or stopped_early(run):
        return None
    bits, floor = run.floors[-1]
    if bits <= floor * (1 + FAR_FROM_FLOOR):
        return None
    values = {"bits": f"{bits:.4f}", "floor": f"{floor:.4f}", "excess": f"{bits / floor - 1:.0%}"}
    return Diagnosis("far_from_floor", values | {"try": str(2 * run.train.max_steps)}, wrong=False)


def lower_rate(run: Run) -> dict[str, str]:
    """Returns the learning rate, and one to try: a third, or the default where it is far above.

    Finetuning has a default for each method and size, so there it is always a third.
    """
    rate, default = run.train.learning_rate, TrainConfig().learning_rate
    is_far_above = rate > 30 * default and not run.finetuning
    return {"rate": f"{rate:g}", "try": f"{default if is_far_above else rate / 3:.2g}"}


CHECKS = (
    initial_loss,
    not_finite,
    learning_rate_too_high,
    learning_rate_too_low,
    spikes,
    gradients_vanish,
    gradients_explode,
    always_clipped,
    overfitting,
    validation_split,
    stopped_early,
    still_falling,
    far_from_floor,
)
