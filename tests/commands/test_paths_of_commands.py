"""Paths as users type them, in every command: they work, or one sentence names them."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import main
from benchmarks.command import locked_folder
from benchmarks.settings import Loading

ROOT = Path(main.__file__).parent
SMALL = [
    "--model.n-layer", "1", "--model.n-embd", "16", "--model.n-head", "2",
    "--model.context-length", "16", "--train.max-steps", "2", "--train.batch-size", "4",
    "--train.eval-every", "2", "--train.device", "cpu",
]  # fmt: skip
TEXT = ["--data.path", "verse.txt", "--data.tokenizer", "char"]
VERSE = "the cat sat on the mat and the dog lay on the log. " * 40
BAD = os.fsdecode(b"runs/\xca\xed")  # a Russian name in CP1251
LONG = "n" * 256


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and a run."""
    folder = tmp_path_factory.mktemp("paths")
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    (folder / "a").mkdir()
    before = Path.cwd()
    os.chdir(folder)
    assert main.main(["train", *TEXT, "--out", "run", *SMALL]) == 0
    os.chdir(before)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which is the working directory."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> set[str]:
    """Returns every path but those of token files."""
    return {str(path) for path in folder.rglob("*") if "cache" not in path.parts}


TRAIN = ["train", *TEXT, *SMALL]
REFUSED = [
    ([*TRAIN, "--out", BAD], r"--out runs/\xca\xed is not UTF-8"),
    ([*TRAIN, "--out", f"{BAD}/run"], r"--out runs/\xca\xed/run is not UTF-8"),
    ([*TRAIN, "--data.cache-dir", BAD], r"--data.cache-dir runs/\xca\xed is not UTF-8"),
    ([*TRAIN, "--out", LONG], "--out: nnn"),
    ([*TRAIN, "--out", ""], "--out is empty"),
    ([*TRAIN, "--out="], "--out is empty"),
    ([*TRAIN, "--out", "verse.txt"], "verse.txt is a file, not a folder; choose another --out"),
    ([*TRAIN, "--out", "verse.txt/run"], "verse.txt/run cannot be used: Not a directory"),
    ([*TRAIN, "--out", "/dev/null"], "/dev/null is a stream, not a folder"),
    ([*TRAIN, "--data.cache-dir", "verse.txt"], "verse.txt cannot be used: "),
    (["train", "--config", BAD], r"--config runs/\xca\xed is not UTF-8"),
    (["train", "--config", "a"], "a/config.json does not exist; name a run"),
    (["train", "--config", "/dev/zero"], "/dev/zero is a device, not a file"),
    (["train", "--resume", BAD], r"--resume runs/\xca\xed is not UTF-8"),
    (["train", "--init-from", BAD], r"--init-from runs/\xca\xed is not UTF-8"),
    (["train", "--data.path", BAD], r"--data.path runs/\xca\xed is not UTF-8"),
    (["train", "--data.tokenizer", BAD], r"--data.tokenizer runs/\xca\xed is not UTF-8"),
    (["generate", BAD], r"RUN runs/\xca\xed is not UTF-8"),
    (["generate", "run", "--draft", BAD], r"--draft runs/\xca\xed is not UTF-8"),
    (["generate", "run", "--prompt-file", "a"], "--prompt-file a is a folder"),
    (["generate", "run", "--prompt-file", "/dev/zero"], "--prompt-file /dev/zero has more than"),
    (["generate", "run", "--prompt-file", "no"], "--prompt-file no does not exist; name a text"),
    (["evaluate", "run", "--compare", BAD], r"--compare runs/\xca\xed is not UTF-8"),
    (["evaluate", "none"], "none does not exist; name a run directory"),
    (["prepare", "--data.path", "verse.txt", "--out", "a/.."], "--out . exists; name another"),
    (["prepare", "--data.path", "verse.txt", "--out", "."], "--out . exists; name another"),
    (["prepare", "--data.path", "verse.txt", "--out", "/"], "--out / exists; name another"),
    (["prepare", "--data.path", "verse.txt", "--out", BAD], "--out runs"),
    (["export", "run", "--out", "verse.txt"], "verse.txt is a file, not a folder"),
    (["import", BAD, "--out", "made"], r"SOURCE runs/\xca\xed is not UTF-8"),
    (["import", "./hf", "--out", BAD], "--out runs"),
    (["doctor", BAD], r"RUN runs/\xca\xed is not UTF-8"),
    (["plan", "--config", BAD], r"--config runs/\xca\xed is not UTF-8"),
    (["verify", BAD], r"RUN runs/\xca\xed is not UTF-8"),
    (["quantize", BAD], r"RUN runs/\xca\xed is not UTF-8"),
    (["benchmark", "loading", "--out", BAD], r"--out runs/\xca\xed is not UTF-8"),
    (["benchmark", "tokenizing", "--text", "no"], "--text no does not exist"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_what_cannot_be_used_is_one_sentence_before_anything_is_written(
    arguments: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(folder)
    assert main.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {sentence}"), said
    assert said.count("\n") == 1 and "[Errno" not in said
    assert files(folder) == before


@pytest.mark.parametrize("out", ['a b\'s "c" $x', "new/..", "a/../b", "книга", "-run", "deep/er/"])
def test_a_run_works_in_a_directory_of_any_name(out: str, folder: Path) -> None:
    if out == "new/..":
        out = "a/x/.."  # a folder that is there
    assert main.main([*TRAIN, f"--out={out}"]) == 0
    assert main.main(["generate", f"./{out}", "--max-new-tokens", "2"]) == 0
    assert not Path("deep/er/.lock").exists()


def test_home_is_expanded_behind_an_equals_sign(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert main.main([*TRAIN, "--out=~/run", "--data.cache-dir=~/cache"]) == 0
    assert not Path("~").exists() and Path("home/run/config.json").exists()
    assert main.main(["generate", "~/run", "--max-new-tokens", "2"]) == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_prompts_and_settings_come_from_pipes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `--prompt-file <(echo the cat)` of a shell gives them."""
    for line, text in (
        ("generate run --max-new-tokens 1 --prompt-file", "the cat"),
        ("plan --json --config", Path("run/config.json").read_text(encoding="utf-8")),
    ):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        assert main.main([*line.split(), f"/dev/fd/{reader}"]) == 0
        os.close(reader)
    assert "the cat" in capsys.readouterr().out


def test_every_file_of_a_run_has_the_mode_that_the_umask_gives(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        assert main.main([*TRAIN, "--out", "made"]) == 0
        assert main.main(["export", "made", "--out", "hf"]) == 0
        assert main.main(["evaluate", "made", "--data.path", "verse.txt"]) == 0
    finally:
        os.umask(before)
    made = [*Path("made").rglob("*"), *Path("hf").rglob("*")]
    modes = {str(path): stat.S_IMODE(path.stat().st_mode) for path in made}
    assert modes == {str(path): 0o750 if path.is_dir() else 0o640 for path in made}


NOBODY = 65534


@pytest.fixture
def public(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the folder that everybody may enter, which pytest's own are not."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(prepared, name, dirs_exist_ok=True)
        for path in (Path(name), *Path(name).rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        monkeypatch.chdir(name)
        yield Path(name)


def as_nobody(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Returns what a command says that a user without rights has called; its status is 2."""
    os.seteuid(NOBODY)
    try:
        assert main.main(arguments) == 2
    finally:
        os.seteuid(0)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("generate run", "run/model.safetensors"),
        ("export run --out open/made", "run/model.safetensors"),
        ("generate run", "run/tokenizer.json"),
        ("generate run", "run/config.json"),
        ("generate run", "run"),
        ("generate run --prompt-file verse.txt", "verse.txt"),
        (
            "train --data.path verse.txt --data.cache-dir open/cache --out open/made "
            "--init-from run",
            "run/model.safetensors",
        ),
    ],
)
def test_what_may_not_be_read_is_called_so(
    line: str, path: str, public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("open").mkdir()
    Path("open").chmod(0o777)
    Path(path).chmod(0)
    said = as_nobody(line.split(), capsys)
    assert f"{path}" in said and said.count("\n") == 1
    assert said.endswith(
        " cannot be used: Permission denied; give yourself the right to it, or name another path\n"
    )
    assert not Path("open/made").exists()


@pytest.mark.parametrize(
    "line",
    [
        "train --data.path verse.txt --out shut/run",
        "train --data.path verse.txt --out shut",
        "train --data.path verse.txt --out open/run --data.cache-dir shut/cache",
        "train --resume run --train.max-steps 4",
        "evaluate run --data.path verse.txt",
        "export run --out shut/hf",
        "export run --format gguf --out shut/x.gguf",
        "prepare --data.path verse.txt --out shut/shards",
    ],
)
def test_what_may_not_be_written_is_called_so(
    line: str, public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("shut").mkdir()
    Path("open").mkdir()
    Path("open").chmod(0o777)
    before = files(public)
    said = as_nobody(line.split(), capsys)
    assert said.startswith("error: ") and said.count("\n") == 1
    assert " cannot be used: Permission denied; give yourself the right" in said
    assert files(public) == before


# A text that has moved ----------------------------------------------------------------------


def test_a_run_goes_on_with_a_text_that_has_moved(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("verse.txt").rename("a/poem.txt")
    more = ["train", "--resume", "run", "--train.max-steps", "4"]
    assert main.main(more) == 2
    assert "what has moved is found with --resume run --data.path" in capsys.readouterr().err
    assert main.main([*more, "--data.path", "a/poem.txt"]) == 0
    assert json.loads(Path("run/config.json").read_text())["data"]["path"] == ["a/poem.txt"]
    assert main.main(["train", "--resume", "run", "--train.max-steps", "5"]) == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--data.path", "other.txt"], "the text of run has changed since the run began"),
        (["--data.path", "verse.txt", "a"], "a has no"),
        (["--data.validation-share", "0.3"], "--resume run keeps its model and data"),
        (["--model.n-layer", "2"], "--resume run keeps its model and data"),
    ],
)
def test_a_run_does_not_go_on_with_another_text(
    flags: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other.txt").write_text(VERSE + "the cat.", encoding="utf-8")
    before = Path("run/config.json").read_text(), Path("run/metrics.jsonl").read_text()
    assert main.main(["train", "--resume", "run", "--train.max-steps", "4", *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
    assert before == (Path("run/config.json").read_text(), Path("run/metrics.jsonl").read_text())


def test_benchmarks_are_written_where_the_user_is(folder: Path) -> None:
    with locked_folder(Loading(), "loading") as made, locked_folder(Loading(), "loading") as other:
        assert made.parent == other.parent == Path("benchmarks/results")
        assert other.name == made.name + "-2"
        assert (folder / made / ".lock").exists()
