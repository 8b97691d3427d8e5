"""commands/streams.py: closed streams, narrow encodings, readers that leave, Ctrl-C at any time."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands.flags import parse_flags
from commands.streams import INTERRUPTED, MIN_COLUMNS, PIPE_CLOSED, WRONG_INPUT
from run_directory.printable import UNSAFE

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, str(ROOT / "main.py")]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are shells of Unix")

ENDED = subprocess.CompletedProcess[bytes]


def in_shell(redirection: str, command: list[str], **environment: str) -> ENDED:
    """Runs a command with its streams redirected by a shell; returns what is left of them."""
    line = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    return subprocess.run(line, capture_output=True, env={**os.environ, **environment}, timeout=60)


def program(body: str) -> list[str]:
    """Returns a command that runs the body of a function as main() is run."""
    lines = "\n    ".join(body.splitlines())
    text = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from commands.streams import run, say
def main(arguments):
    {lines}
    return 0
if __name__ == "__main__":
    sys.exit(run(main, []))
"""
    return [sys.executable, "-c", text]


@pytest.mark.parametrize(
    "redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/null", "2> /dev/full"]
)
def test_streams_that_are_closed_change_no_status(redirection: str) -> None:
    done = in_shell(redirection, program("print('text'); say('note'); sys.stdin.read()"))
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr and done.stderr in (b"", b"note\n")
    assert done.stdout in (b"", b"text\n")


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    in_it = f'cd "{folder}" && rmdir "{folder}" && exec "$@"'
    done = subprocess.run(["sh", "-c", in_it, "sh", *MAIN, "plan"], capture_output=True, timeout=60)
    assert done.returncode == WRONG_INPUT
    assert done.stderr.decode() == ("error: the working directory is gone; change to another one\n")


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    body = f"""
import os, subprocess
with open({str(file)!r}, "wb") as file:
    file.write(b"weights")
    file.flush()
    os.write(1, b"a library prints")
    os.write(2, b"and warns")
    subprocess.run(["sh", "-c", "echo as; echo a child does >&2"], check=True)
"""
    assert in_shell("<&- >&- 2>&-", program(body.strip())).returncode == 0
    assert file.read_bytes() == b"weights"


def test_a_wrong_input_keeps_its_status_where_nobody_can_read_the_error() -> None:
    for redirection in ("2>&-", ">&- 2>&-", "2> /dev/full"):
        assert in_shell(redirection, [*MAIN, "trian"]).returncode == WRONG_INPUT


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp1251", "utf-8", "cp437:strict"])
def test_no_encoding_of_the_output_ends_a_command(encoding: str) -> None:
    text = "Привет, 🦊 \ufffd \udcca"
    body = f"text = {text!r}\nprint(text); say(text)"
    done = in_shell("", program(body), PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    for shown in (done.stdout, done.stderr):
        assert "Привет".encode(encoding.split(":")[0], "backslashreplace") in shown


def test_an_output_that_cannot_be_written_is_an_error_and_a_reader_that_left_is_none() -> None:
    done = in_shell("> /dev/full", [*MAIN, "--help"])
    assert done.returncode == WRONG_INPUT
    assert done.stderr.startswith(b"error: the standard output cannot be written: No space")
    assert done.stderr.count(b"\n") == 1
    piped = subprocess.run(
        ["bash", "-c", '"$@" | head -1; exit ${PIPESTATUS[0]}', "bash", *MAIN, "--help"],
        capture_output=True,
    )
    assert piped.returncode in (0, PIPE_CLOSED) and piped.stderr == b""


def interrupted(command: list[str], ready: bytes = b"ready\n") -> tuple[int, bytes]:
    """Sends SIGINT when a command has said that it is ready; returns its status and errors."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == ready
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
        return process.wait(timeout=20), errors


READY = "print('ready', flush=True)"
MOMENTS = {
    "in the work": f"import time\n{READY}\ntime.sleep(20)",
    "in an import": "sys.path.insert(0, {folder!r})\nimport slow_module",
    "in a destructor": f"""
import time
class Slow:
    def __del__(self):
        {READY}
        time.sleep(20)
Slow()
time.sleep(20)""",
    "in a cleanup": f"""
import time
try:
    {READY}
    time.sleep(20)
finally:
    print('cleaned', flush=True)""",
    "in an import that swallows it": """
sys.path.insert(0, {folder!r})
try:
    import slow_module
except BaseException:
    raise ImportError("half a module")""",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_ends_a_command_by_its_status_without_a_word(moment: str, tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text(f"import time\n{READY}\ntime.sleep(20)\n")
    body = MOMENTS[moment].strip().replace("{folder!r}", repr(str(tmp_path)))
    assert interrupted(program(body)) == (INTERRUPTED, b"")


def test_what_was_printed_before_an_import_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text("import os, time\nos.write(2, b'.')\ntime.sleep(20)\n")
    body = f"print('kept')\nsys.path.insert(0, {str(tmp_path)!r})\nimport slow_module"
    with subprocess.Popen(program(body), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stderr.read(1) == b"."
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"kept\n"
    assert process.returncode == INTERRUPTED


@pytest.mark.parametrize("error", ["ValueError", "OSError", "RuntimeError"])
def test_ctrl_c_that_a_compiled_library_turns_into_an_error_is_ctrl_c(error: str) -> None:
    body = f"""
import os, signal
import main as front_door
def command(settings):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise {error}("could not determine the shape of object type") from None
front_door.load = lambda target: command if target.endswith(":plan") else lambda arguments: None
return front_door.main(["plan"])
"""
    ended = subprocess.run(program(body), capture_output=True, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (INTERRUPTED, b"")
    once = body.replace("os.kill(os.getpid(), signal.SIGINT)", "raise KeyboardInterrupt")
    ended = subprocess.run(program(once), capture_output=True, cwd=ROOT)
    assert ended.returncode != INTERRUPTED and b"could not determine" in ended.stderr


def test_ctrl_c_after_the_work_is_done_ends_the_exit_without_a_word() -> None:
    body = f"""
import atexit, time
def slow():
    {READY}
    time.sleep(20)
atexit.register(slow)"""
    assert interrupted(program(body.strip())) == (INTERRUPTED, b"")


def test_ctrl_c_while_the_interpreter_is_taken_apart_keeps_the_status() -> None:
    body = """
import os, signal
class Last:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):
        kill(process, number)
sys.last = Last()
print("done")
"""
    done = subprocess.run(program(body.strip()), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")


def test_ctrl_c_that_the_shell_has_turned_off_stays_so() -> None:
    line = "import signal\nprint(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *program(line)], capture_output=True
    )
    assert done.stdout == b"True\n"


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.1])
def test_ctrl_c_in_the_first_tenth_of_a_second_shows_no_traceback(moment: float) -> None:
    command = [*MAIN, "generate", "nothing"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    # a signal before Python has begun ends the process itself, which shells call 130 too
    if b"init_import_site" in errors or b"_get_module_lock" in errors:
        return  # Python's own start or import fails so, before main.py says what a signal is to do
    if re.search(rb'main\.py", line (0, in|\d+, in <module>\s+(import|from) )', errors):
        return  # in main.py's first imports, before it can say what a signal is to do
    assert process.returncode in (INTERRUPTED, -signal.SIGINT, WRONG_INPUT)
    assert b"Traceback" not in errors


def test_a_terminal_of_one_column_gets_the_help_too() -> None:
    done = in_shell("", [*MAIN, "generate", "--help"], COLUMNS="1")
    assert done.returncode == 0 and b"--prompt" in done.stdout


@pytest.mark.parametrize("columns", ["1", "0", "7", "-5", "x"])
def test_texts_are_never_laid_out_for_a_few_columns(columns: str) -> None:
    body = "import shutil\nprint(shutil.get_terminal_size().columns)"
    assert int(in_shell("", program(body), COLUMNS=columns).stdout) >= MIN_COLUMNS


@dataclass(frozen=True)
class Hostile:
    """A command whose default comes from a config.json of a stranger."""

    name: str = "\x1b]0;x\x07\x9b2J"  # a name


def test_the_help_shows_the_settings_of_a_stranger_with_escapes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        parse_flags(Hostile, "train", ["--help"], Hostile())
    shown = capsys.readouterr().out
    assert not UNSAFE.search(shown) and "\\x1b]0;x" in shown
