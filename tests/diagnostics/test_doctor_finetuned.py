"""main.py doctor on finetuned runs: each fault beside a run near it that has none."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import main
from cfg_gpt2 import GPT2Config, RunConfig, TrainConfig
from diagnostics.doctor import finetuned
from diagnostics.doctor.command import diagnose_run, sentences
from diagnostics.doctor.curve import Diagnosis, Run, read_run
from finetuning.base_text import BASE_TEXT_METRIC, REPLAY_SHARE
from finetuning.preference import WORRYING_FALL
from finetuning.reinforce import WORRYING_SHARE
from finetuning.tiny_questions.dialogues import TASKS
from run_directory.config_file import write_config
from run_directory.files import sha256
from training.progress import Metrics, MetricsLog
from training.units import OF_METHODS

EVERY = 10  # steps between evaluations
Evaluation = dict[str, float]

HEALTHY: dict[str, list[Evaluation]] = {  # by method, as the runs of docs/measurements.md went
    "sft": [{"val_loss": x} for x in (8.1, 0.27, 0.20, 0.17, 0.16)],
    "lora": [{"val_loss": x} for x in (8.1, 0.9, 0.6, 0.5, 0.48)],
    "dpo": [
        {"val_loss": loss, "val_chosen_gain": gain, "val_margin": margin, "val_accuracy": right}
        for loss, gain, margin, right in (
            (0.80, 0.0, 0.0, 0.0),
            (0.65, 0.26, 4.4, 0.70),
            (0.58, 0.37, 7.2, 0.75),
            (0.56, 0.34, 9.1, 0.764),
            (0.56, 0.38, 8.8, 0.764),
        )
    ],
    "reward": [{"val_loss": 1 - x, "val_reward": x} for x in (0.30, 0.42, 0.51, 0.55, 0.58)],
}


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Run]:
    def run(
        method: str,
        evaluations: Sequence[Evaluation] | None = None,
        train_losses: Sequence[float] | None = None,
        first: Metrics | None = None,
        last: Metrics | None = None,
        step_metrics: Metrics | None = None,
        **tuning: object,
    ) -> Run:
        """Writes a run directory beside its base, as finetune does, and reads it.

        first, last: what else is measured at step 0 and at the last step; step_metrics: in each.
        """
        base, folder = tmp_path / "base", tmp_path / "run"
        folder.mkdir(exist_ok=True)
        for path, value in ((base, 1.0), (folder, 2.0)):
            path.mkdir(exist_ok=True)
            if not (path / "model.safetensors").exists():
                save_file({"blocks.0": torch.full((2, 2), value)}, path / "model.safetensors")
        (folder / "evaluation").mkdir(exist_ok=True)
        (folder / "evaluation" / "tiny-questions.items.jsonl").touch()
        evaluations = evaluations or HEALTHY[method]
        losses = train_losses or [
            e["val_loss"] * (0.9 if method != "reward" else 0) for e in evaluations[1:]
        ]
        lines = log_of(evaluations, losses, step_metrics or {"reward": 0.5, "without_spread": 0.5})
        lines[0] |= first or {}
        lines[-1] |= last or {}
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        for line in lines:
            MetricsLog(folder).append(line)
        train = TrainConfig(max_steps=len(lines) - 1, warmup_steps=2, learning_rate=1e-3)
        write_config(folder, RunConfig(model=GPT2Config(context_length=176), train=train))
        chat = {
            "method": method,
            "base": str(base),
            "base_sha256": sha256(base / "model.safetensors"),
            "data": ["tiny-questions"],
            "replay": 0.1 if method in ("sft", "lora") else 0.0,
        }
        (folder / "chat.json").write_text(json.dumps({"format": "turns", **chat, **tuning}))
        return read_run(folder)

    return run


def log_of(
    evaluations: Sequence[Evaluation], losses: Sequence[float], further: Metrics
) -> list[Metrics]:
    """Returns the lines of a log: an evaluation every few steps, and a training loss a step."""
    lines: list[Metrics] = [{"step": 0, **evaluations[0]}]
    for evaluation, loss in zip(evaluations[1:], losses, strict=True):
        for i in range(EVERY):
            noise = 0.02 * (-1) ** i * loss
            step = {"step": len(lines), "train_loss": loss + noise, "grad_norm": 0.5}
            lines.append(step | further)
        lines[-1] |= evaluation
    return lines


def found_in(run: Run) -> dict[str, Diagnosis]:
    return {diagnosis.name: diagnosis for diagnosis in diagnose_run(run)}


@pytest.mark.parametrize("method", HEALTHY)
def test_a_healthy_run_of_each_method_has_no_diagnosis(
    recorded: Callable[..., Run], method: str
) -> None:
    first, last = {BASE_TEXT_METRIC: 0.1765, "examples": 500, "left_out": 0}, {}
    run = recorded(method, first=first, last=last | {BASE_TEXT_METRIC: 0.1845})
    assert found_in(run) == {}
    assert set(HEALTHY) == set(OF_METHODS) == set(finetuned.OF_METHODS)


def test_the_base_text_is_forgotten(recorded: Callable[..., Run]) -> None:
    def after(bits: float, method: str = "sft", **tuning: object) -> dict[str, Diagnosis]:
        first, last = {BASE_TEXT_METRIC: 0.1765}, {BASE_TEXT_METRIC: bits}
        return found_in(recorded(method, first=first, last=last, **tuning))

    assert after(0.19) == {}
    found = after(0.2188, replay=0.0)["base_forgotten"]
    assert found.wrong and found.values["excess"] == "24%"
    assert found.values["try"] == f"--replay {REPLAY_SHARE}"
    assert after(0.25)["base_forgotten"].values["try"] == "--replay 0.2"
    found = after(0.25, "dpo")["base_forgotten"]
    assert found.values["try"] == "--train.learning-rate 0.00033"
    short = [{"val_loss": x} for x in (8.1, 4.0, 2.0, 1.0, 0.6)]
    bits = {"first": {BASE_TEXT_METRIC: 0.1765}, "last": {BASE_TEXT_METRIC: 0.2015}}
    found = found_in(recorded("sft", short, **bits))["base_forgotten"]
    assert found.values["try"] == "--train.max-steps 80"  # what is replayed takes its time
    # A run of before these figures were recorded, and one whose base was gone.
    assert found_in(recorded("sft")) == found_in(recorded("sft", last={BASE_TEXT_METRIC: 9})) == {}


def test_few_dialogues_are_memorized(recorded: Callable[..., Run]) -> None:
    rising = [{"val_loss": x} for x in (3.0, 2.2, 2.0, 2.4, 2.9)]
    found = found_in(recorded("sft", rising, [2.3, 1.6, 0.9, 0.4]))["overfitting_examples"]
    assert (found.values["step"], found.values["best"], found.values["last"]) == (
        "20", "2.00", "2.90",
    )  # fmt: skip
    assert found.values["command"].endswith("--best")
    level = [{"val_loss": x} for x in (3.0, 2.2, 2.0, 2.02, 2.03)]
    assert "overfitting_examples" not in found_in(recorded("sft", level, [2.3, 1.9, 1.8, 1.8]))


def test_pairs_are_memorized_in_the_unit_of_pairs(recorded: Callable[..., Run]) -> None:
    rising = [
        e | {"val_loss": x} for e, x in zip(HEALTHY["dpo"], (0.8, 0.6, 0.55, 0.7, 0.9), strict=True)
    ]
    found = found_in(recorded("dpo", rising, [0.65, 0.4, 0.2, 0.1]))["overfitting_examples"]
    assert "step 20, 0.55 per pair, and" in sentences(found, "en")["seen"]
    assert "0.55 на пару" in sentences(found, "ru")["seen"]


def test_lora_that_publishes_its_base_has_no_effect(
    recorded: Callable[..., Run], tmp_path: Path
) -> None:
    run = recorded("lora")
    assert found_in(run) == {}
    (run.path / "model.safetensors").write_bytes((tmp_path / "base/model.safetensors").read_bytes())
    assert found_in(run)["lora_is_base"].wrong
    assert "lora_is_base" not in found_in(recorded("sft"))


def test_without_the_base_it_is_told_by_b(recorded: Callable[..., Run], tmp_path: Path) -> None:
    run = recorded("lora")
    (tmp_path / "base/model.safetensors").unlink()
    (run.path / "adapter").mkdir()
    file = run.path / "adapter" / "adapter_model.safetensors"
    for b, names in ((0.0, {"base_moved", "lora_is_base"}), (0.1, {"base_moved"})):
        save_file({"h.0.lora_A.weight": torch.ones(2, 2),
                   "h.0.lora_B.weight": torch.full((2, 2), b)}, file)  # fmt: skip
        assert set(found_in(run)) == names


def test_lora_whose_validation_loss_stays_is_too_weak(recorded: Callable[..., Run]) -> None:
    level = [{"val_loss": x} for x in (2.5, 2.5, 2.499, 2.498, 2.495)]
    found = found_in(recorded("lora", level, [2.5] * 4))
    assert set(found) == {"lora_weak"} and found["lora_weak"].values["try"] == "0.01"
    falling = [{"val_loss": x} for x in (2.5, 2.46, 2.45, 2.44, 2.44)]
    assert found_in(recorded("lora", falling, [2.5, 2.46, 2.45, 2.44])) == {}


def test_chosen_answers_that_become_unlikely_are_a_collapse(recorded: Callable[..., Run]) -> None:
    def with_gain(gain: float) -> dict[str, Diagnosis]:
        *before, last = HEALTHY["dpo"]
        return found_in(recorded("dpo", [*before, last | {"val_chosen_gain": gain}]))

    found = with_gain(-1.4)["chosen_fall"]
    assert found.wrong and found.values["fall"] == "1.40"
    assert "--preference.chosen-nll" in sentences(found, "en")["try"]
    assert with_gain(-0.8) == {}
    assert finetuned.CHOSEN_FALL == WORRYING_FALL


def test_margins_that_grow_without_accuracy_are_diagnosed(recorded: Callable[..., Run]) -> None:
    def with_course(margins: Sequence[float], right: Sequence[float]) -> dict[str, Diagnosis]:
        course = zip(HEALTHY["dpo"], margins, right, strict=True)
        return found_in(
            recorded("dpo", [e | {"val_margin": m, "val_accuracy": a} for e, m, a in course])
        )

    found = with_course((0, 4, 7, 12, 18), (0, 0.70, 0.75, 0.75, 0.74))["margins_only"]
    assert (found.values["margin"], found.values["last_margin"]) == ("7.0", "18.0")
    assert with_course((0, 4, 7, 12, 18), (0, 0.70, 0.75, 0.78, 0.80)) == {}
    assert with_course((0, 4, 7, 7.5, 8), (0, 0.70, 0.75, 0.75, 0.75)) == {}
    assert with_course((0, 4, 7, 12, 18), (0, 0.90, 0.99, 0.99, 0.99)) == {}  # nothing is left


@pytest.mark.parametrize(
    ("reward", "share", "name", "wrong"),
    [
        (0.01, 0.97, "rewards_low", True),
        (0.50, 0.97, "rewards_equal", True),
        (0.98, 0.97, "rewards_equal", False),  # all is learned
        (0.50, 0.90, None, False),
    ],
)
def test_rewards_without_spread_are_no_signal(
    recorded: Callable[..., Run], reward: float, share: float, name: str | None, wrong: bool
) -> None:
    found = found_in(recorded("reward", step_metrics={"reward": reward, "without_spread": share}))
    assert set(found) == ({name} if name else set())
    assert all(diagnosis.wrong is wrong for diagnosis in found.values())
    assert finetuned.EQUAL_REWARDS == WORRYING_SHARE


def test_rewards_that_stop_growing_or_fall_are_diagnosed(recorded: Callable[..., Run]) -> None:
    def with_rewards(*rewards: float) -> dict[str, Diagnosis]:
        return found_in(recorded("reward", [{"val_loss": 1 - x, "val_reward": x} for x in rewards]))

    stalled = with_rewards(0.30, 0.45, 0.50, 0.49, 0.505)
    assert set(stalled) == {"reward_stalls"} and not stalled["reward_stalls"].wrong
    fallen = with_rewards(0.30, 0.45, 0.50, 0.48, 0.40)
    assert set(fallen) == {"reward_falls"} and fallen["reward_falls"].values["step"] == "20"
    assert with_rewards(0.30, 0.45, 0.50, 0.53, 0.56) == {}
    assert with_rewards(0.30, 0.80, 0.97, 0.97, 0.97) == {}


@pytest.mark.parametrize(("n", "wrong"), [(3, False), (80, True), (0, None)])
def test_examples_that_are_too_long_are_counted(
    recorded: Callable[..., Run], n: int, wrong: bool | None
) -> None:
    found = found_in(recorded("sft", first={"examples": 500, "left_out": n}))
    assert {name: d.wrong for name, d in found.items()} == (
        {} if wrong is None else {"left_out": wrong}
    )
    assert not n or f"{n} of 500 examples" in sentences(found["left_out"], "en")["seen"]


def test_a_base_that_moved_or_changed_is_diagnosed(
    recorded: Callable[..., Run], tmp_path: Path
) -> None:
    changed = found_in(recorded("sft", base_sha256="0" * 64))
    assert set(changed) == {"base_changed"} and changed["base_changed"].wrong
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    run = read_run(tmp_path / "run")
    moved = found_in(run)
    assert set(moved) == {"base_moved"} and not moved["base_moved"].wrong


@pytest.mark.parametrize(
    ("method", "jump", "near"),
    [("sft", 3.5, 3.2), ("lora", 3.5, 3.2), ("dpo", 1.6, 1.0), ("reward", 0.9, 0.73)],
)
def test_a_learning_rate_that_destroys_the_base_is_diagnosed(
    recorded: Callable[..., Run], method: str, jump: float, near: float
) -> None:
    def with_second(second: float) -> dict[str, Diagnosis]:
        start = {"sft": 3.0, "lora": 3.0, "dpo": 0.8, "reward": 0.7}[method]
        losses = (start, second, start * 0.8, start * 0.7, start * 0.65)
        course = zip(HEALTHY[method], losses, strict=True)
        return found_in(
            recorded(method, [e | {"val_loss": x} for e, x in course], [start * 0.9] * 4)
        )

    found = with_second(jump)["validation_jumps"]
    assert found.wrong and found.values["try"] == "0.0001"
    assert "validation_jumps" not in with_second(near)


def test_a_run_without_an_exam_gets_the_command(recorded: Callable[..., Run]) -> None:
    def without_exam(method: str, *data: str) -> str:
        run = recorded(method, data=data)
        (run.path / "evaluation" / "tiny-questions.items.jsonl").unlink()
        found = found_in(run)
        assert set(found) == {"exam_not_taken"} and not found["exam_not_taken"].wrong
        return found["exam_not_taken"].values["command"]

    for task in TASKS:
        assert without_exam("sft", task).endswith(f"--task {task}")
    assert without_exam("sft", "chat.jsonl").endswith("--task questions.jsonl")
    assert without_exam("reward", "mine.jsonl").endswith("--task mine.jsonl")


def test_a_stopped_run_goes_on_by_finetune(recorded: Callable[..., Run]) -> None:
    run = recorded("sft")
    cut = Run(run.path, run.config, run.lines[:25], run.finetuning)
    assert (
        found_in(cut)["stopped_early"]
        .values["command"]
        .startswith("python main.py finetune --resume")
    )


@pytest.mark.parametrize(
    "method, first, step_metrics",
    [
        ("sft", {"left_out": 3}, None),
        ("sft", {"left_out": 3, "examples": 0}, None),
        ("sft", {BASE_TEXT_METRIC: 0.0}, None),
        ("reward", {}, {"without_spread": 1.0}),
    ],
)
def test_figures_without_their_partners_are_passed_over(
    recorded: Callable[..., Run], method: str, first: Metrics, step_metrics: Metrics | None
) -> None:
    last = {BASE_TEXT_METRIC: 2.0}
    run = recorded(method, first=first, last=last, step_metrics=step_metrics)
    assert not found_in(run)


def test_margins_without_accuracies_are_passed_over(recorded: Callable[..., Run]) -> None:
    margins = [{"val_loss": 0.6 - n / 20, "val_margin": float(n)} for n in range(5)]
    assert "margins_only" not in found_in(recorded("dpo", margins))


def test_an_unknown_method_is_no_run_of_a_text(recorded: Callable[..., Run]) -> None:
    run = recorded("sft")
    chat = json.loads((run.path / "chat.json").read_text())
    (run.path / "chat.json").write_text(json.dumps(chat | {"method": "magic"}))
    with pytest.raises(ValueError, match=r"chat.json cannot be used: method: Input .* 'sft'"):
        read_run(run.path)


def test_a_run_that_learned_from_no_data_gets_a_command(recorded: Callable[..., Run]) -> None:
    run = recorded("sft", data=[])
    (run.path / "evaluation" / "tiny-questions.items.jsonl").unlink()
    assert "questions.jsonl" in found_in(run)["exam_not_taken"].values["command"]


@pytest.mark.parametrize("broken", ["run", "base", "adapter"])
def test_a_broken_file_of_tensors_is_named(
    broken: str, recorded: Callable[..., Run], tmp_path: Path
) -> None:
    run = recorded("lora")
    file = tmp_path / broken / "model.safetensors"
    if broken == "adapter":
        (tmp_path / "base" / "model.safetensors").unlink()
        file = run.path / "adapter" / "adapter_model.safetensors"
        file.parent.mkdir()
    file.write_bytes(b"\x20" + 6 * b"\0")
    with pytest.raises(ValueError, match=f"{file} cannot be read: .*; copy or train it again"):
        found_in(run)


def test_doctor_reads_what_finetune_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "The hen asked where the drum was. In the barn. <|user|> <|assistant|>\n"
    Path("text.txt").write_text(text * 60)
    rows = [
        {
            "prompt": f"Where is drum {n}?" + 60 * " Well?" * (n % 10 == 7),
            "completion": "In barn 1.",
        }
        for n in range(30)
    ]
    Path("chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = (
        "--data.path text.txt --data.vocab-size 300 --data.cache-dir cache --model.n-layer 1 "
        "--model.n-head 2 --model.n-embd 16 --model.context-length 64 --model.dropout 0 "
        "--train.max-steps 2 --train.batch-size 2 --train.warmup-steps 1 --train.device cpu"
    )
    assert main.main(["train", *small.split(), "--out", "base"]) == 0
    flags = (
        "--data chat.jsonl --method lora --leave-out-long --train.max-steps 22 --train.device cpu"
    )
    slow = "--train.batch-size 2 --train.learning-rate 1e-7 --train.final-learning-rate 1e-8"
    assert main.main(["finetune", "base", *flags.split(), *slow.split(), "--out", "chat"]) == 0
    first, *_, last = MetricsLog(Path("chat")).read()
    assert (first["examples"], first["left_out"]) == (27, 3)
    assert first[BASE_TEXT_METRIC] == pytest.approx(last[BASE_TEXT_METRIC], rel=1e-3)
    capsys.readouterr()
    assert main.main(["doctor", "chat", "--language", "en"]) == 1
    said = capsys.readouterr().out
    assert "LoRA has hardly changed the model" in said
    assert "evaluate chat --task questions.jsonl" in said
