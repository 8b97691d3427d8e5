"""Two processes at one directory: one works, the other says so at once and harms nothing."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import main
from run_directory.lock import only_writer, only_writer_of

ROOT = Path(main.__file__).parent
SMALL = [
    "--model.n-layer", "1", "--model.n-embd", "16", "--model.n-head", "2",
    "--model.context-length", "16", "--train.max-steps", "4", "--train.batch-size", "4",
    "--train.eval-every", "2", "--train.device", "cpu",
]  # fmt: skip
TEXT = ["--data.path", "verse.txt", "--data.tokenizer", "char"]
VERSE = "the cat sat on the mat and the dog lay on the log. " * 40
WRITERS = {  # the flags of every command that writes, and the directory or file that it writes
    "train": (["train", *TEXT, *SMALL, "--out", "made"], "made"),
    "resume": (["train", "--resume", "run", "--train.max-steps", "8"], "run"),
    "prepare": (["prepare", "--data.path", "verse.txt", "--workers", "1", "--out", "made"], "made"),
    "import": (["import", "./hf", "--out", "made"], "made"),
    "export": (["export", "run", "--out", "made"], "made"),
    "gguf": (["export", "run", "--format", "gguf", "--out", "made.gguf"], "made.gguf"),
    "evaluate": (["evaluate", "run", "--data.path", "verse.txt"], "run/evaluation"),
    "benchmark": (
        ["benchmark", "loading", "--rounds", "1", "--steps", "1", "--out", "made"],
        "made",
    ),
}
LOCKED_BESIDE = ("prepare", "gguf")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a run and an export of it."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    bpe = ["--data.path", "verse.txt", "--data.vocab-size", "270"]
    assert main.main(["train", *bpe, "--out", "run", *SMALL]) == 0
    assert main.main(["export", "run", "--out", "hf"]) == 0
    os.chdir(before)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that folder, which is the working directory."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    left = [path for path in tmp_path.rglob("*") if path.name.endswith((".lock", ".part"))]
    assert left == []


def contents(folder: Path) -> dict[str, bytes | None]:
    """Returns every file and folder but the token files, which any process may make."""
    paths = (path for path in folder.rglob("*") if "cache" not in path.parts)
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("name", WRITERS)
def test_who_comes_second_says_so_and_changes_nothing(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, written = WRITERS[name]
    lock = only_writer_of if name in LOCKED_BESIDE else only_writer
    with lock(Path(written), "", print):
        before = contents(folder)
        assert main.main(arguments) == 2
        assert contents(folder) == before
    said = capsys.readouterr().err
    assert f"error: {written} is being written by process {os.getpid()} on " in said
    assert "; wait for it" in said and said.count("\n") == 1


def test_readers_need_no_lock(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with only_writer(Path("run"), "", print):
        for line in ("generate run --max-new-tokens 2", "evaluate run", "export run --out other"):
            assert main.main(line.split()) == 0, capsys.readouterr().err


def test_who_comes_second_to_a_default_name_gets_the_next_one(folder: Path) -> None:
    flags = ["train", *TEXT, *SMALL, "--train.max-steps", "1"]
    with only_writer(Path("runs/tiny"), "", print):
        assert main.main(flags) == 0
    assert os.listdir("runs") == ["tiny-2"]
    assert main.main(flags) == 0  # the name that nobody holds any more
    assert sorted(os.listdir("runs")) == ["tiny", "tiny-2"]


def test_a_refused_training_leaves_no_directory(folder: Path) -> None:
    assert main.main(["train", "--data.path", "none.txt", "--out", "made", *SMALL]) == 2
    assert not Path("made").exists()


def run_of(arguments: list[str]) -> subprocess.Popen[str]:
    """Starts a command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("round", range(20))
@pytest.mark.parametrize("name", WRITERS)
def test_of_two_processes_one_works_and_one_says_so(name: str, round: int, folder: Path) -> None:
    arguments, written = WRITERS[name]
    first = run_of(arguments)
    time.sleep(round / 20)
    second = run_of(arguments)
    said = [process.communicate()[1] for process in (first, second)]
    statuses = [first.returncode, second.returncode]
    assert statuses.count(0) >= 1, said
    for status, errors in zip(statuses, said, strict=True):
        assert "Traceback" not in errors
        if status != 0:  # the other was at work, or had just finished
            assert status == 2 and errors.count("\n") == 1
            assert (
                "is being written by process" in errors or "exists" in errors or "holds" in errors
            )
    if name == "resume":
        lines = Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(9))
    assert Path(written).exists()
