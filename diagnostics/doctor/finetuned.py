"""Diagnoses of a finetuned run: what was forgotten, what was not learned, what it was tuned on.

The losses of labelled data begin far above or below those of a text, and the methods dpo and reward
measure pairs and answers. So a finetuned run has checks of its own beside some of curve.py.
Previous: curve.py.  Next: machine.py.
"""

from pathlib import Path
from statistics import fmean

import torch

from diagnostics.doctor.curve import (
    MIN_STEPS,
    Check,
    Diagnosis,
    Finetuning,
    Run,
    always_clipped,
    diagnose,
    gradients_explode,
    learning_rate_too_high,
    learning_rate_too_low,
    lower_rate,
    not_finite,
    overfitting,
    spikes,
    still_falling,
    stopped_early,
)
from run_directory.files import sha256
from run_directory.printable import main_command
from run_directory.weights import WEIGHTS_FILE, open_tensors
from training.progress import Metrics

# With a tenth replayed 3 to 5% are lost in 1,300 steps and more, and 14% in 40 steps; without
# replay 21 to 51% (docs/measurements.md).
FORGOTTEN = 0.1  # of the bits per byte before
FULL_REPLAY = 0.1  # the share that finetune replays where --replay is not given
MANY_LEFT_OUT = 0.1  # of the dialogues; finetune leaves out 1% unless it is told to leave out more
# Of the first evaluation after step 0 above that of step 0, in the units of the validation loss.
# A reward is the mean of some 500 answers, known to 0.02.
MIN_JUMP = {"sft": 0.3, "lora": 0.3, "dpo": 0.3, "reward": 0.1}
UNCHANGED = 0.01  # of the validation loss at step 0
CHOSEN_FALL = 1.0  # nats per token; finetune warns of it (finetuning/preference.py)
WIDER_MARGIN = 1.25  # times the margin in the middle of the run
EQUAL_REWARDS = 0.95  # of the answers; finetune warns of it (finetuning/reinforce.py)
MOSTLY_WRONG = 0.5  # the mean reward below which finetune advises easier questions
REWARD_RISE, REWARD_FALL = 0.01, 0.05  # of the answers
MASTERED = 0.95  # of the pairs or answers are right; little is left to be learned
TASK = "tiny-questions"  # with which the names of the built-in tasks begin


def diagnose_finetuned(run: Run, tuning: Finetuning) -> list[Diagnosis]:
    """Returns every diagnosis of a finetuned run; none for a healthy one."""
    return diagnose(run, (*OF_ALL, *OF_METHODS[tuning.method]))


def tuning_of(run: Run) -> Finetuning:
    """Returns how a finetuned run was finetuned."""
    assert run.finetuning is not None
    return run.finetuning


def lines_with(lines: list[Metrics], *names: str) -> list[Metrics]:
    """Returns the lines of metrics in which all of these were measured."""
    return [metrics for metrics in lines if all(name in metrics for name in names)]


# All methods --------------------------------------------------------------------------------


def base_forgotten(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the base's own text takes many more bits than before."""
    measured = lines_with(run.lines, "base_bits_per_byte")
    if len(measured) < 2 or measured[0]["step"] != 0:
        return None
    before, after = (m["base_bits_per_byte"] for m in (measured[0], measured[-1]))
    if before <= 0 or after <= (1 + FORGOTTEN) * before:
        return None
    values = {
        "before": f"{before:.4f}",
        "after": f"{after:.4f}",
        "excess": f"{after / before - 1:.0%}",
        "replay": f"{tuning_of(run).replay:.0%}",
        "try": against_forgetting(run),
    }
    return Diagnosis("base_forgotten", values)


def against_forgetting(run: Run) -> str:
    """Returns a flag to try: shorter steps, more replay, or a longer run with it."""
    tuning, too_high = tuning_of(run), rate_too_high(run)
    if too_high or tuning.method not in ("sft", "lora"):
        rate = (too_high.values if too_high else lower_rate(run))["try"]
        return f"--train.learning-rate {rate}"
    if tuning.replay < FULL_REPLAY:
        return f"--replay {FULL_REPLAY:g}"
    if too_little_learned(run):  # what is forgotten in the first steps is learned again
        return f"--train.max-steps {2 * run.train.max_steps}"
    return f"--replay {min(0.9, 2 * tuning.replay):g}"


def base_of_run(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the weights that the run began with are gone or have changed.

    LoRA needs them to resume, and to make its best weights of a checkpoint; rewards need them to
    resume, for their distance from them is measured.
    """
    tuning = tuning_of(run)
    file = Path(tuning.base) / WEIGHTS_FILE
    if not file.is_file():
        return Diagnosis(
            "base_moved", {"base": tuning.base}, wrong=tuning.method in ("lora", "reward")
        )
    if sha256(file) != tuning.base_sha256:
        return Diagnosis("base_changed", {"base": tuning.base})
    return None


def left_out(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where dialogues, pairs or questions are too long for the context."""
    n, n_all = (int(run.lines[0].get(name, 0)) for name in ("left_out", "examples"))
    if not 0 < n <= n_all:
        return None
    values = {"n": f"{n:,}", "all": f"{n_all:,}", "share": f"{n / n_all:.1%}"}
    values |= {"context": str(run.config.model.context_length)}
    return Diagnosis("left_out", values, wrong=n > MANY_LEFT_OUT * n_all)


def rate_too_high(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the validation loss jumped at first, or the training loss rose."""
    method = tuning_of(run).method
    if len(run.evaluations) > 1 and run.evaluations[0]["step"] == 0:
        first, second = run.evaluations[:2]
        if second["val_loss"] > first["val_loss"] + MIN_JUMP[method]:
            values = {
                "first": f"{first['val_loss']:.2f}",
                "second": f"{second['val_loss']:.2f}",
                "step": str(second["step"]),
                "unit": run.units.loss,
                "rate": f"{run.train.learning_rate:g}",
                "try": f"{run.train.learning_rate / 10:.2g}",
            }
            return Diagnosis("validation_jumps", values)
    return None if method == "reward" else learning_rate_too_high(run)


def exam_not_taken(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where a finished run has answered no exam."""
    if stopped_early(run) or any((run.path / "evaluation").glob("*.items.jsonl")):
        return None
    tuning = tuning_of(run)
    data = next(iter(tuning.data), "")
    has_answers = data.startswith(TASK) or (tuning.method == "reward" and data)
    task = data if has_answers else "questions.jsonl"
    command = main_command("evaluate", run.path, "--task", task)
    return Diagnosis("exam_not_taken", {"command": command}, wrong=False)


# Single methods -----------------------------------------------------------------------------


def overfitting_examples(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the validation loss rose while the training loss stayed below."""
    found = None if rate_too_high(run) else overfitting(run)
    if not found:
        return None
    command = main_command("chat", run.path, "--best")
    return Diagnosis("overfitting_examples", found.values | {"command": command})


def too_little_learned(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where a run ended while it was still learning."""
    return None if rate_too_high(run) or overfitting(run) else still_falling(run)


def lora_without_effect(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where LoRA has not changed the weights, or hardly the answers."""
    if not run.steps or not run.evaluations:
        return None
    if publishes_base(run):
        return Diagnosis("lora_is_base", {"step": str(run.lines[-1]["step"])})
    first, last = (run.evaluations[i]["val_loss"] for i in (0, -1))
    if len(run.steps) < MIN_STEPS or abs(last - first) > UNCHANGED * first:
        return None
    rate = run.train.learning_rate
    values = {"first": f"{first:.4f}", "last": f"{last:.4f}", "unit": run.units.loss}
    return Diagnosis("lora_weak", values | {"rate": f"{rate:g}", "try": f"{10 * rate:g}"})


def publishes_base(run: Run) -> bool:
    """Returns whether model.safetensors holds the weights that LoRA began with.

    Where these are gone, B tells it, which begins at zero.
    """
    adapter = run.path / "adapter" / "adapter_model.safetensors"
    file, base = run.path / WEIGHTS_FILE, Path(tuning_of(run).base) / WEIGHTS_FILE
    if file.is_file() and base.is_file():
        with open_tensors(file) as ours, open_tensors(base) as theirs:
            names, base_names = ours.keys(), theirs.keys()
            if set(names) != set(base_names):
                return False
            return all(torch.equal(ours.get_tensor(n), theirs.get_tensor(n)) for n in names)
    if not adapter.is_file():
        return False
    with open_tensors(adapter) as tensors:
        names = tensors.keys()
        return not any(tensors.get_tensor(name).any() for name in names if "lora_B" in name)


def chosen_fall(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the chosen answers have become much less likely."""
    last = run.evaluations[-1] if run.evaluations else {}
    gain = last.get("val_chosen_gain", 0.0)
    if gain > -CHOSEN_FALL:
        return None
    values = {"fall": f"{-gain:.2f}", "step": str(last["step"])}
    return Diagnosis("chosen_fall", values | lower_rate(run))


def margins_only(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where margins grew in the second half, and accuracy did not."""
    learned = [m for m in lines_with(run.evaluations, "val_margin", "val_accuracy") if m["step"]]
    if len(learned) < 4:
        return None
    middle, last = learned[len(learned) // 2 - 1], learned[-1]
    has_grown = last["val_margin"] > WIDER_MARGIN * max(0.0, middle["val_margin"])
    before, after = middle["val_accuracy"], last["val_accuracy"]
    if not has_grown or after > before or after >= MASTERED:
        return None
    values = {
        "margin": f"{middle['val_margin']:.1f}",
        "last_margin": f"{last['val_margin']:.1f}",
        "accuracy": f"{before:.1%}",
        "last_accuracy": f"{after:.1%}",
        "step": str(middle["step"]),
    }
    return Diagnosis("margins_only", values)


def equal_rewards(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where nearly all answers to a question earned the same."""
    drawn = lines_with(run.steps, "without_spread", "reward")
    if not drawn:
        return None
    share, reward = (fmean(m[name] for m in drawn) for name in ("without_spread", "reward"))
    if share < EQUAL_REWARDS:
        return None
    values = {"share": f"{share:.0%}", "reward": f"{reward:.1%}"}
    if reward < MOSTLY_WRONG:
        return Diagnosis("rewards_low", values)
    return Diagnosis("rewards_equal", values, wrong=reward < MASTERED)


def reward_curve(run: Run) -> Diagnosis | None:
    """Returns a diagnosis where the validation reward fell, or stopped growing halfway."""
    rewards = lines_with(run.evaluations, "val_reward")
    if len(rewards) < 4 or equal_rewards(run) or rate_too_high(run):
        return None
    best, last = max(rewards, key=lambda m: m["val_reward"]), rewards[-1]
    if last["val_reward"] < best["val_reward"] - REWARD_FALL:
        command = main_command("chat", run.path, "--best")
        return Diagnosis("reward_falls", rewards_of(best, last) | {"command": command})
    middle = rewards[(len(rewards) - 1) // 2]
    has_grown = last["val_reward"] > middle["val_reward"] + REWARD_RISE
    if has_grown or last["val_reward"] >= MASTERED:
        return None
    return Diagnosis("reward_stalls", rewards_of(middle, last), wrong=False)


def rewards_of(before: Metrics, last: Metrics) -> dict[str, str]:
    """Returns the validation rewards of two evaluations, and the step of the first."""
    rewards = {"reward": before["val_reward"], "last": last["val_reward"]}
    return {name: f"{x:.1%}" for name, x in rewards.items()} | {"step": str(before["step"])}


OF_ALL: tuple[Check, ...] = (
    base_forgotten,
    base_of_run,
    left_out,
    rate_too_high,
    not_finite,
    stopped_early,
    exam_not_taken,
)
OF_LOSSES: tuple[Check, ...] = (spikes, gradients_explode, always_clipped, overfitting_examples)
OF_METHODS: dict[str, tuple[Check, ...]] = {
    "sft": (*OF_LOSSES, learning_rate_too_low, too_little_learned),
    "lora": (*OF_LOSSES, lora_without_effect, too_little_learned),
    "dpo": (*OF_LOSSES, learning_rate_too_low, chosen_fall, margins_only),
    "reward": (equal_rewards, reward_curve),
}
