"""One writer for a directory: the second is refused, a killed one leaves nothing locked."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from run_directory import lock
from run_directory.files import write_whole
from run_directory.lock import (
    BeingWritten,
    first_free,
    in_turn,
    only_writer,
    only_writer_of,
)

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from run_directory.lock import *
folder = Path(sys.argv[1])
with {context}:
    print("held", flush=True)
    time.sleep(60)
"""


def silent(line: str) -> None:
    """Says nothing."""


@contextmanager
def other_process(folder: Path, context: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yields a process that holds a lock."""
    code = HOLD.format(context=context)
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "x"
    with other_process(run, "only_writer(folder, 'wait', print)") as process:
        with pytest.raises(BeingWritten) as refused, only_writer(run, "choose another", silent):
            raise AssertionError
        assert str(refused.value).startswith(f"{run} is being written by process {process.pid} on ")
        assert str(refused.value).endswith("; wait for it, or choose another")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (run / ".lock").exists()  # of the killed one; it locks nothing
        with only_writer(run, "choose another", silent):
            assert f"process {os.getpid()} " in (run / ".lock").read_text()
    assert not run.exists()  # nothing was written
    with only_writer(tmp_path / "deep" / "er" / "run", "", silent):
        pass
    assert os.listdir(tmp_path) == ["runs"]  # of the killed process; the other folders are gone


def test_a_writer_leaves_its_files_and_no_lock(tmp_path: Path) -> None:
    run = tmp_path / "x"
    with only_writer(run, "", silent):
        write_whole(run / "config.json", lambda part: part.write_text("{}"))
    assert os.listdir(run) == ["config.json"]


def test_a_folder_that_the_user_made_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fails"), only_writer(tmp_path, "", silent):
        raise ValueError("fails")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".model.safetensors.part").write_bytes(b"half")
    (tmp_path / "a film.part").write_bytes(b"of the user's browser")
    (tmp_path / ".m.gguf.part").write_bytes(b"of an export, which holds a lock of its own")
    with only_writer_of(tmp_path / "m.gguf", "", silent), only_writer(tmp_path, "", silent):
        assert sorted(file.name for file in tmp_path.glob("*.part")) == [
            ".m.gguf.part",
            "a film.part",
        ]


@pytest.mark.parametrize("name", ["file", "file/x", "dangling"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "dangling").symlink_to("nowhere")
    writer = only_writer(tmp_path / name, "", silent)
    with pytest.raises((ValueError, OSError)) as refused, writer:
        raise AssertionError
    assert not str(refused.value).rstrip().endswith(";")  # but with what to do
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file"]
    assert (tmp_path / "file").read_text() == "precious"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), only_writer(tmp_path / "run", "", silent):
        raise AssertionError
    assert (tmp_path / "precious").read_text() == "precious"


def test_numbered_folders_are_never_given_twice(tmp_path: Path) -> None:
    numbers = [tmp_path / f"tiny-{n}" for n in range(1, 6)]
    (tmp_path / "tiny-1").mkdir()
    (tmp_path / "tiny-1" / "config.json").write_text("{}")
    with (
        other_process(numbers[1], "only_writer(folder, 'wait', print)"),
        first_free(numbers, silent) as mine,
        first_free(numbers, silent) as other,
    ):
        assert (mine, other) == (numbers[2], numbers[3])
    assert [path.name for path in tmp_path.iterdir() if path.name > "tiny-2"] == []


def test_whoever_wants_the_same_result_waits_for_it(tmp_path: Path) -> None:
    waited: list[str] = []
    with other_process(tmp_path / "KEY", "in_turn(folder, print)") as process:

        def waiting(holder: str) -> None:
            waited.append(holder)
            process.kill()

        with in_turn(tmp_path / "KEY", waiting):
            assert f"process {process.pid} on " in waited[0]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", ["moved", "replaced"])
def test_a_folder_that_vanishes_is_noticed_and_not_made_again(tmp_path: Path, how: str) -> None:
    run = tmp_path / "x"
    message = r"x was moved or removed while this command"
    with pytest.raises(FileNotFoundError, match=message), only_writer(run, "", silent):
        run.rename(tmp_path / "y")
        if how == "replaced":
            run.mkdir()
        write_whole(run / "sub" / "file", lambda part: part.write_text("x"))
    assert not run.exists() or os.listdir(run) == []


def test_without_locks_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(opened: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "try_lock", no_locks)
    said: list[str] = []
    with only_writer(tmp_path / "x", "", said.append):
        pass
    assert said == [
        f"{tmp_path} has no locks: let no other command write {tmp_path / 'x'} meanwhile"
    ]


def test_many_processes_at_once_take_turns(tmp_path: Path) -> None:
    code = """
import sys; from pathlib import Path; from run_directory.lock import *
folder = Path(sys.argv[1])
for _ in range(200):
    with in_turn(folder, lambda holder: None):
        file = folder.with_name("count")
        file.write_text(str(int(file.read_text()) + 1))
"""
    (tmp_path / "count").write_text("0")
    lock_poll = "import run_directory.lock as l; l.POLL_SECONDS = 0.001\n"
    command = [sys.executable, "-S", "-c", lock_poll + code, str(tmp_path / "KEY")]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "600"
    assert os.listdir(tmp_path) == ["count"]
