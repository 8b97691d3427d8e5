"""train --resume and --config: what is said before and after, and what is left as it was."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest

import main
from run_directory.config_file import read_config

VERSE = "The cat sat on the mat and the dog lay on the log; the sun was low. "
SIZES = [
    "--model.n-layer", "1", "--model.n-head", "2", "--model.n-embd", "16",
    "--model.context-length", "16", "--train.device", "cpu", "--train.warmup-steps", "1",
    "--train.batch-size", "2", "--train.eval-every", "2",
]  # fmt: skip
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run of four steps."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "verse.txt").write_text(VERSE * 100, encoding="utf-8")
    arguments = ["--data.path", str(folder / "verse.txt"), "--data.vocab-size", "280", *SIZES]
    arguments += ["--data.cache-dir", str(folder / "cache"), "--train.max-steps", "4"]
    assert main.main(["train", *arguments, "--out", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def contents(run: Path) -> dict[str, bytes]:
    return {str(f.relative_to(run)): f.read_bytes() for f in run.rglob("*") if f.is_file()}


def failure(capsys: Capture, *arguments: str) -> str:
    capsys.readouterr()
    assert main.main([*arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_finished_run_says_so_and_is_left_as_it_is(run: Path, capsys: Capture) -> None:
    before, times = contents(run), {f: f.stat().st_mtime_ns for f in run.rglob("*")}
    capsys.readouterr()
    assert main.main(["train", "--resume", str(run)]) == 0
    output = capsys.readouterr().out
    assert f"{run} is finished: step 4 of 4. Nothing was done" in output
    assert "such as --train.max-steps 8" in output and output.count("\n") == 1
    assert contents(run) == before
    assert {f: f.stat().st_mtime_ns for f in run.rglob("*")} == times


def test_fewer_steps_than_were_done_are_refused(run: Path, capsys: Capture) -> None:
    before = contents(run)
    error = failure(capsys, "train", "--resume", str(run), "--train.max-steps", "3")
    assert "--train.max-steps 3 lies before step 4" in error
    assert contents(run) == before and read_config(run).train.max_steps == 4


def test_a_run_that_goes_on_says_from_which_step(run: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert main.main(["train", "--resume", str(run), "--train.max-steps", "6"]) == 0
    output = capsys.readouterr().out
    assert "resumed   from step 4 of 6\n" in output
    assert "is finished" not in output
    assert read_config(run).train.max_steps == 6


def test_a_run_that_begins_says_nothing_of_resuming(
    made: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["--config", str(made / "run" / "config.json"), "--train.max-steps", "2"]
    capsys.readouterr()
    assert main.main(["train", *arguments, "--out", str(tmp_path / "other")]) == 0
    assert "resumed" not in capsys.readouterr().out


def test_a_run_killed_before_its_samples_gets_them(run: Path, capsys: Capture) -> None:
    (run / "samples.txt").unlink()
    assert main.main(["train", "--resume", str(run)]) == 0
    assert (run / "samples.txt").exists()


def test_a_run_killed_between_checkpoint_and_weights_gets_its_weights(run: Path) -> None:
    right = (run / "model.safetensors").read_bytes()
    assert main.main(["train", "--resume", str(run), "--train.max-steps", "6"]) == 0
    (run / "model.safetensors").write_bytes(right)  # those of step 4, beside checkpoint 6
    assert main.main(["train", "--resume", str(run)]) == 0
    assert (run / "model.safetensors").read_bytes() != right


def test_a_run_whose_newest_checkpoint_is_damaged_is_not_called_finished(
    run: Path, capsys: Capture
) -> None:
    (run / "checkpoints" / "step-000004" / "checkpoint.json").write_text("{", encoding="utf-8")
    capsys.readouterr()
    assert main.main(["train", "--resume", str(run)]) == 0
    output = capsys.readouterr().out
    assert "resumed   from step 2 of 4" in output


@pytest.fixture
def imported(run: Path, tmp_path: Path) -> Path:
    """A run that has weights and no training, as import leaves it."""
    assert main.main(["export", str(run), "--out", str(tmp_path / "hf")]) == 0
    assert main.main(["import", str(tmp_path / "hf"), "--out", str(tmp_path / "imported")]) == 0
    return tmp_path / "imported"


def test_an_imported_run_cannot_be_resumed_and_says_what_can_be_done(
    imported: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commands.train.corpus_with_bar", None)  # nothing is tokenized
    error = failure(capsys, "train", "--resume", str(imported))
    assert f"train --init-from {imported} --data.path" in error
    assert "no checkpoint to go on from" in error


@pytest.mark.parametrize("name", ["imported", "imported/config.json"])
def test_settings_of_a_run_are_taken_without_its_weights_and_that_is_said(
    name: str, imported: Path, made: Path, tmp_path: Path, capsys: Capture
) -> None:
    arguments = ["--config", str(tmp_path / name), "--data.path", str(made / "verse.txt")]
    arguments += ["--train.max-steps", "1", "--train.batch-size", "1", "--train.device", "cpu"]
    arguments += ["--data.cache-dir", str(made / "cache"), "--out", str(tmp_path / "new")]
    capsys.readouterr()
    assert main.main(["train", *arguments]) == 0
    output = capsys.readouterr().out
    assert "weights   random: --config takes the settings" in output
    assert f"--init-from {imported} begins with them" in output


def test_a_config_without_weights_beside_it_has_no_such_line(
    made: Path, tmp_path: Path, capsys: Capture
) -> None:
    shutil.copy(made / "run" / "config.json", tmp_path)
    arguments = ["--config", str(tmp_path / "config.json"), "--train.max-steps", "1"]
    capsys.readouterr()
    assert main.main(["train", *arguments, "--out", str(tmp_path / "new")]) == 0
    assert "weights   random" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["evaluate", "quantize"])
def test_an_imported_model_is_not_measured_on_a_text_that_it_never_saw(
    command: str, imported: Path, made: Path, capsys: Capture
) -> None:
    error = failure(capsys, command, str(imported))
    assert f"{imported} was imported" in error and "name a text by --data.path" in error
    assert main.main([command, str(imported), "--data.path", str(made / "verse.txt")]) == 0


def with_losses(run: Path, losses: dict[int, float]) -> None:
    """Writes other validation losses into the checkpoints of a run."""
    from training.checkpoint import RECORD_FILE, Record

    for step, loss in losses.items():
        file = run / "checkpoints" / f"step-{step:06d}" / RECORD_FILE
        values = json.loads(file.read_text(encoding="utf-8")) | {"val_loss": loss}
        values.pop("checksum")
        from training.checkpoint import checksum_of

        text = json.dumps(values | {"checksum": checksum_of(values)})
        file.write_text(text, encoding="utf-8")
        assert Record.from_json(text).val_loss == loss


def test_the_best_weights_are_generated_from_exported_and_evaluated(
    run: Path, made: Path, tmp_path: Path, capsys: Capture
) -> None:
    with_losses(run, {2: 1.0, 4: 2.0})
    capsys.readouterr()
    assert main.main(["generate", str(run), "--best", "--prompt", "The", "--json"]) == 0
    shown = capsys.readouterr()
    assert "weights of step 2, validation loss 1.0000" in shown.err
    assert main.main(["generate", str(run), "--prompt", "The", "--json"]) == 0
    assert "weights of step" not in capsys.readouterr().err

    hf = tmp_path / "best-hf"
    assert main.main(["export", str(run), "--best", "--out", str(hf)]) == 0
    assert "measured after step 2" in (hf / "README.md").read_text(encoding="utf-8")
    text = ["--data.path", str(made / "verse.txt")]
    assert main.main(["evaluate", str(run), "--best", *text]) == 0
    assert "weights of step 2, the best" in capsys.readouterr().out
    assert main.main(["evaluate", str(run), *text]) == 0
    results = run / "evaluation"
    best = json.loads((results / "verse-stride-16-best.json").read_text())
    newest = json.loads((results / "verse-stride-16.json").read_text())
    assert best["origin"]["step"] == 2 and newest["origin"]["step"] is None
    assert best["figures"]["nats"] != newest["figures"]["nats"]
    assert main.main(["import", str(hf), "--out", str(tmp_path / "again")]) == 0
    assert main.main(["evaluate", str(tmp_path / "again"), *text]) == 0
    again = tmp_path / "again" / "evaluation" / "verse-stride-16.json"
    assert json.loads(again.read_text())["figures"]["nats"] == best["figures"]["nats"]


@pytest.mark.parametrize("command", ["generate", "evaluate", "export"])
def test_a_run_without_checkpoints_has_no_best_weights(
    command: str, imported: Path, made: Path, tmp_path: Path, capsys: Capture
) -> None:
    further = {
        "generate": ["--prompt", "The"],
        "evaluate": ["--data.path", str(made / "verse.txt")],
        "export": ["--out", str(tmp_path / "nothing")],
    }[command]
    error = failure(capsys, command, str(imported), "--best", *further)
    assert "--best" in error and "no checkpoint with a validation loss" in error
    assert not (tmp_path / "nothing").exists()


def test_no_run_is_measured_where_one_has_no_best_weights(
    run: Path, imported: Path, made: Path, capsys: Capture
) -> None:
    text = ["--data.path", str(made / "verse.txt")]
    error = failure(capsys, "evaluate", str(run), "--compare", str(imported), "--best", *text)
    assert f"--best: {imported} has no checkpoint" in error
    assert not (run / "evaluation").exists()


def test_a_run_that_overfits_ends_with_the_best_step_and_how_to_use_it(
    made: Path, tmp_path: Path, capsys: Capture
) -> None:
    letters = random.Random(3).choices("abcdefghijklmnopqrst ", k=900)  # nothing can be learned
    (tmp_path / "small.txt").write_text("".join(letters), encoding="utf-8")
    arguments = ["--data.path", str(tmp_path / "small.txt"), "--data.tokenizer", "char", *SIZES]
    arguments += ["--train.max-steps", "60", "--train.eval-every", "10", "--model.n-embd", "64"]
    arguments += ["--train.batch-size", "16", "--train.learning-rate", "2e-2"]
    arguments += ["--data.cache-dir", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    capsys.readouterr()
    assert main.main(["train", *arguments]) == 0
    output = capsys.readouterr().out
    assert output.count("overfitting: the validation loss was lowest at step") == 1
    assert output.count("\nOverfitting: the validation loss was lowest at step") == 1
    assert "--best takes the weights of step" in output
    assert f"generate {tmp_path / 'run'} --best --prompt" in output
    assert os.path.getsize(tmp_path / "run" / "loss.png") > 1000
