"""main.py as a person meets it: commands, help, and one clear sentence for whatever is wrong."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import main
from cfg_gpt2 import PRESETS
from commands.streams import PIPE_CLOSED

ROOT = Path(main.__file__).parent
SMALL = [
    "--model.n-layer", "1", "--model.n-embd", "16", "--model.n-head", "2",
    "--model.context-length", "16", "--train.max-steps", "4", "--train.batch-size", "4",
    "--train.eval-every", "2", "--train.device", "cpu",
]  # fmt: skip
VERSE = "Мама мыла раму, the cat sat on the mat. " * 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with one text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "verse.txt").write_text(VERSE, encoding="utf-8")
    return tmp_path


def trained(folder: Path, *flags: str, out: str = "run") -> Path:
    text = ["--data.path", "verse.txt", "--data.tokenizer", "char"]
    status = main.main(["train", *text, "--out", out, *SMALL, *flags])
    assert status == 0
    return folder / out


def test_a_run_directory_holds_all_that_a_run_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(folder)
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json", "tokenizer.json", "model.safetensors", "metrics.jsonl", "loss.png",
        "samples.txt", "checkpoints", "snapshots",
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "cpu with" in said and "bits per byte" in said and "main.py generate run" in said
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    assert {"val_loss", "val_bits_per_byte"} <= set(lines[-1])
    assert {"train_loss", "learning_rate", "grad_norm", "tokens", "seconds"} <= set(lines[-1])


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned the verse by heart."""
    folder = tmp_path_factory.mktemp("writer")
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    flags = ["--train.max-steps", "60", "--train.eval-every", "60", "--train.learning-rate", "1e-2"]
    trained(folder, *flags)
    os.chdir(before)
    return folder / "run"


def test_generate_goes_on_with_the_prompt_and_repeats_itself_with_the_same_seed(
    writer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for _ in range(2):
        flags = ["--prompt", "Мама", "--max-new-tokens", "40", "--samples", "2", "--seed", "5"]
        assert main.main(["generate", str(writer), *flags]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    first, second = texts[0].rstrip("\n").split("\n\n")
    assert first.startswith("Мама") and second.startswith("Мама") and first != second


def test_json_tells_tokens_log_probabilities_and_why_each_text_ended(
    writer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--max-new-tokens", "25", "--prompt", "Мама", "--prompt", "the c", "--samples", "2"]
    flags += ["--stop", "ет", "--stop", "a", "--json"]
    assert main.main(["generate", str(writer), *flags]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["prompt"], row["seed"]) for row in rows] == [
        ("Мама", 1), ("Мама", 2), ("the c", 1), ("the c", 2),
    ]  # fmt: skip
    for row in rows:
        assert len(row["tokens"]) == len(row["log_probabilities"])
        assert all(value <= 0 for value in row["log_probabilities"])
        assert row["reason"] in ("length", "stop_token", "stop_string")
        assert (row["reason"] == "stop_string") == (row["stopped_by"] in ("ет", "a"))
        assert "a" not in row["text"]
    assert "stop_string" in {row["reason"] for row in rows}


def test_streamed_text_is_the_whole_text_and_the_speed_stands_beside_it(
    writer: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for flag in ("--stream", "--no-stream"):
        flags = ["--prompt", "Мама", "--samples", "3", "--max-new-tokens", "30", flag]
        assert main.main(["generate", str(writer), *flags]) == 0
        said.append(capsys.readouterr())
    assert said[0].out == said[1].out
    assert "tokens; the first after" in said[0].err and "tokens/s; cache" in said[0].err


def test_prompts_come_from_files_and_standard_input(
    writer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "prompt.txt").write_text("the cat", encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO("Мама мыла"))
    flags = ["--prompt", "-", "--prompt-file", str(tmp_path / "prompt.txt"), "--json"]
    assert main.main(["generate", str(writer), *flags, "--max-new-tokens", "3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows] == ["Мама мыла", "the cat"]


def test_interactive_asks_again_after_a_prompt_that_cannot_be_read(
    writer: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the\nZürich\nМама\n\nnever\n"))
    assert main.main(["generate", str(writer), "--interactive", "--max-new-tokens", "4"]) == 0
    said = capsys.readouterr()
    assert [line[:3] for line in said.out.splitlines()] == ["the", "Мам"]
    assert said.err.count("error: 'Z' (U+005A)") == 1


@pytest.mark.parametrize("flags", [["--prompt-lookup"], ["--draft", "run"], ["--beams", "3"]])
def test_guesses_and_beams_write_too(
    flags: list[str],
    writer: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(writer.parent)
    said = []
    for extra in ([], flags):
        line = ["generate", "run", "--prompt", "Мама", "--temperature", "0", *extra]
        assert main.main([*line, "--max-new-tokens", "40"]) == 0
        said.append(capsys.readouterr())
    if "--beams" not in flags:
        assert said[0].out == said[1].out
        assert "guesses were right" in said[1].err
    assert said[1].out.startswith("Мама")


def test_banned_words_are_not_written(writer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["generate", str(writer), "--prompt", "the ", "--max-new-tokens", "80", "--ban", "cat"]
    assert main.main(line) == 0
    assert "cat" not in capsys.readouterr().out


def test_resume_goes_on_to_more_steps(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(folder)
    assert main.main(["train", "--resume", "run", "--train.max-steps", "6"]) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(7))
    assert json.loads(Path("run/config.json").read_text())["train"]["max_steps"] == 6


def test_a_run_on_the_small_world_says_its_floor_and_judges_its_stories(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data.path", "tiny-world-ru", "--data.stories", "100"]
    assert main.main([*flags, *SMALL, "--model.context-length", "32"]) == 0
    said = capsys.readouterr().out
    assert "above the floor 0." in said
    assert "of 10 stories are possible in tiny-world-ru; the first misfit:" in said
    assert Path("runs/tiny-world-ru/loss.png").exists()
    assert main.main([*flags, *SMALL]) == 0  # a second run takes a directory of its own
    assert Path("runs/tiny-world-ru-2/loss.png").exists()


def test_settings_of_a_file_go_before_defaults_and_after_flags(folder: Path) -> None:
    trained(folder, "--train.seed", "7")
    again = ["train", "--config", "run/config.json", "--train.batch-size", "3", "--out", "two"]
    assert main.main(again) == 0
    settings = json.loads(Path("two/config.json").read_text())
    assert settings["train"]["seed"] == 7
    assert settings["train"]["batch_size"] == 3
    assert settings["model"]["n_embd"] == 16


WRONG = {
    "an unknown command": ("trian", "trian is no command; choose one of train, "),
    "an unknown flag": ("train --model.n-hed 5", "--model.n-hed, 5; perhaps you meant --model.n-"),
    "heads that do not fit": (
        "--model.n-head 5",
        "--model.n-embd 128 must be a multiple of --model.n-head 5; try --model.n-embd 130",
    ),
    "no number": ("--train.max-steps many", "many"),
    "a choice that is none": ("--train.device tpu", "tpu"),
    "an unknown preset": ("--preset gpt5", "--preset gpt5 is unknown; choose one of tiny, "),
    "a missing file": ("--data.path nothing.txt", "nothing.txt does not exist"),
    "an empty file": ("--data.path empty.txt", "empty.txt is empty"),
    "a CP1251 file": ("--data.path cp1251.txt", "cp1251.txt is not UTF-8 text: byte 0xcc"),
    "ten characters": ("--data.path ten.txt --data.tokenizer char", "has 11 tokens, but a window"),
    "a missing config": ("--config nothing.json", "nothing.json does not exist"),
    "nothing to resume": ("train --resume nothing", "nothing"),
    "a run without weights": ("generate weightless", "model.safetensors does not exist"),
    "truncated weights": ("generate truncated", "model.safetensors cannot be read"),
    "no run": ("generate nothing", "nothing"),
    "an unseen character": ("generate run --prompt Zürich", "'Z' (U+005A) at position 0"),
    "an out that is taken": ("--out run", "--out run already holds a run"),
    "another model on resume": ("train --resume run --model.n-layer 2", "change --train.* only"),
    "a temperature below zero": ("generate run --temperature -1", "--temperature -1.0"),
    "a temperature that is nearly zero": ("generate run --temperature 1e-40", "at least 1e-06"),
    "a seed of 70 bits": ("generate run --seed 999999999999999999999", "has more than 64 bits"),
    "a penalty beyond fp32": ("generate run --presence-penalty 1e39", "lie from -1e+06 to 1e+06"),
    "a repetition penalty near 0": (
        "generate run --repetition-penalty 1e-39",
        "above 0, from 1e-06 to 1e+06",
    ),
    "a bias beyond fp32": ("generate run --logit-bias 1 -1e39", "from -1e+06 to 1e+06, or -inf"),
    "a steep length penalty": (
        "generate run --temperature 0 --beams 2 --length-penalty 1000",
        "lie from -10 to 10",
    ),
    "samples below one": ("generate run --samples 0", "--samples 0"),
    "nothing to write": ("generate run --max-new-tokens 0", "--max-new-tokens 0 must be 1 or"),
    "a top-p of nothing": ("generate run --top-p 0", "--top-p 0.0 must be above 0 and at most 1"),
    "a top-p above one": ("generate run --top-p 1.5", "--top-p 1.5 must be above 0 and at most"),
    "a min-p above one": ("generate run --min-p 2", "--min-p 2.0 must be at least 0 and at most"),
    "beams with sampling": ("generate run --beams 4", "--beams 4 and --temperature 0.8 exclude"),
    "no beams": ("generate run --beams 0", "--beams 0 must be 1 or more; try 4"),
    "a length penalty alone": ("generate run --length-penalty 2", "is for beams; add --beams 4"),
    "an empty stop string": ("generate run --stop=", "--stop has an empty string; give at least"),
    "an empty banned word": ("generate run --ban=", "--ban has an empty word"),
    "a stop token of no token": (
        "generate run --stop-tokens 999",
        "--stop-tokens names token id 999; the model has 0 to ",
    ),
    "a bias of no token": ("generate run --logit-bias 999 1", "--logit-bias names token id 999"),
    "an infinite bias": ("generate run --logit-bias 1 inf", "--logit-bias 1 inf must be a number"),
    "more at least than at most": (
        "generate run --min-new-tokens 9 --max-new-tokens 8",
        "--min-new-tokens 9 must be 0 or more and at most --max-new-tokens 8",
    ),
    "equal samples": (
        "generate run --temperature 0 --samples 2",
        "--samples 2 would be the same text: at --temperature 0",
    ),
    "a prompt file that is none": ("generate run --prompt-file no.txt", "no.txt does not exist"),
    "a CP1251 prompt": ("generate run --prompt-file cp1251.txt", "cp1251.txt is not UTF-8 text"),
    "a prompt and questions": ("generate run --interactive --prompt a", "leave out --prompt"),
    "two standard inputs": ("generate run --prompt - --prompt -", "--prompt - is given twice"),
    "two ways of guessing": (
        "generate run --draft run --prompt-lookup",
        "--draft, --prompt-lookup and --beams exclude each other; choose one",
    ),
    "another vocabulary": ("generate run --draft other", "--draft other has another tokenizer"),
}


@pytest.fixture(scope="module")
def mishaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the wrong commands name."""
    folder = tmp_path_factory.mktemp("mishaps")
    before = Path.cwd()
    os.chdir(folder)
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "ten.txt").write_text("ten chars.")
    (folder / "cp1251.txt").write_bytes("Мама мыла раму. ".encode("cp1251") * 50)
    run = trained(folder)
    (folder / "other").mkdir()
    for file in ("config.json", "model.safetensors"):
        (folder / "other" / file).write_bytes((run / file).read_bytes())
    (folder / "other/tokenizer.json").write_text("{}")
    for name in ("weightless", "truncated"):
        (folder / name).mkdir()
        for file in ("config.json", "tokenizer.json"):
            (folder / name / file).write_bytes((run / file).read_bytes())
    weights = (run / "model.safetensors").read_bytes()
    (folder / "truncated/model.safetensors").write_bytes(weights[:-1000])
    os.chdir(before)
    return folder


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_input_ends_with_one_sentence_and_status_2(
    line: str,
    words: str,
    mishaps: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(mishaps)
    before = contents(mishaps)
    assert main.main(line.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1 and "Traceback" not in said
    assert contents(mishaps) == before


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the token files of a text that was read, which are whole and stay."""
    files = (path for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("limit", [400, 4_000])
def test_a_disk_that_fills_up_leaves_nothing_half_written(folder: Path, limit: int) -> None:
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "sys.path.insert(0, sys.argv[1]); import main; sys.exit(main.main(sys.argv[2:]))"
    )
    flags = ["--data.path", "verse.txt", "--data.tokenizer", "char", "--out", "run", *SMALL]
    done = subprocess.run(
        [sys.executable, "-c", limited, str(ROOT), "train", *flags],
        capture_output=True, text=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    left = [path.name for path in folder.rglob("*") if ".part" in path.name]
    assert left == []
    assert not (folder / "run/model.safetensors").exists()


def test_help_has_a_line_a_command_and_names_every_preset(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"python main.py {name}" in said for name in main.COMMANDS)
    with pytest.raises(SystemExit) as stopped:
        main.main(["train", "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in PRESETS)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
@pytest.mark.parametrize("line", ["plan --json", "plan", "--help"])
def test_a_pipe_that_is_closed_ends_the_command_without_a_word(line: str) -> None:
    """As in `python main.py ... | head`; the reader is gone before the first line."""
    command = [sys.executable, str(ROOT / "main.py"), *line.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == PIPE_CLOSED
