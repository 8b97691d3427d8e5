"""Every command on every kind of terminal: the promised status, no traceback, nothing lost.

The whole table is slow, some minutes for each command; three of its cells are in the normal suite.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

import main
from cfg_gpt2 import GPT2Config, RunConfig
from commands.streams import INTERRUPTED, PIPE_CLOSED, WRONG_INPUT
from finetuning.chat_json import ChatSettings, write_chat_settings
from gpt2 import GPT2Model
from run_directory.config_file import CONFIG_FILE, write_config
from run_directory.files import sha256
from run_directory.printable import UNSAFE, printable
from tokenizer import Tokenizer

if sys.platform == "win32":
    pytest.skip("these are terminals and signals of Unix", allow_module_level=True)

from oracles.terminal import in_terminal

ROOT = Path(main.__file__).parent
MAIN = [sys.executable, str(ROOT / "main.py")]
SMALL = "--model.n-layer 1 --model.n-head 2 --model.n-embd 16 --model.context-length 16 "
SMALL += "--train.batch-size 4 --train.warmup-steps 1 --train.device cpu"
VERSE = "Мама мыла раму, the cat sat on the mat. " * 300
COMMANDS = {  # NEW is a name that is free
    "train": f"train --data.path verse.txt --data.vocab-size 300 --out NEW --train.max-steps 60 "
    f"--train.eval-every 10 {SMALL}",
    "prepare": "prepare --data.path verse.txt --data.vocab-size 300 --workers 1 --out NEW",
    "generate": "generate run --prompt Мама --max-new-tokens 40",
    "json": "generate run --prompt Мама --max-new-tokens 40 --json",
    "questions": "generate run --interactive",
    "chat": "chat assistant --message Мама? --max-new-tokens 9",
    "chat in json": "chat assistant --message Мама? --max-new-tokens 9 --json",
    "chat of lines": "chat assistant",
    "import": "import ./hf --out NEW",
    "export": "export run --out NEW",
    "gguf": "export run --format gguf --out NEW.gguf",
    "evaluate": "evaluate run --data.path verse.txt",
    "inspect": "inspect run --prompt Мама",
    "quantize": "quantize run --data.path verse.txt --tokens 500",
    "plan": "plan --preset tiny",
    "doctor": "doctor run",
    "verify": "verify run --only fused --only cached",
    "benchmark": "benchmark loading --rounds 1 --batch-size 1 --context-length 8 --out NEW",
    "help": "generate --help",
}
FULL = {"doctor": {0, 1}}  # the statuses of a command that ends by itself; {0} for all others
GO_ON = {"train": "train --resume NEW"}  # how an interrupted one goes on, where it left something
N_MOMENTS, SECONDS = 30, 5.0

Situation = Callable[[list[str], Path], tuple[int, bytes]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a run and its export, of which the commands read."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    with chdir(folder):
        for line in (COMMANDS["train"].replace("NEW", "run"), "export run --out hf"):
            assert main.main(line.split()) == 0
    make_assistant(folder / "assistant", Tokenizer.load(folder / "run"))
    return folder


def make_assistant(run: Path, tokenizer: Tokenizer) -> None:
    """Makes a run that says it was finetuned for chat, of random weights."""
    sizes = GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=64, n_layer=1, n_head=2, n_embd=16
    )
    write_config(run, RunConfig(model=sizes))
    GPT2Model(sizes).save(run)
    tokenizer.save(run)
    settings = ChatSettings(method="sft", base="run", data=("verse.txt",), base_sha256="")
    write_chat_settings(run, settings)


def by_shell(line: str, **environment: str | None) -> Situation:
    """Returns a situation: a line of bash in which "$@" is the command."""
    changed = {**os.environ, **environment}
    clean = {name: value for name, value in changed.items() if value is not None}

    def run(arguments: list[str], folder: Path) -> tuple[int, bytes]:
        done = subprocess.run(
            ["bash", "-c", line, "bash", *MAIN, *arguments],
            cwd=folder, env=clean, capture_output=True, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run


def on_terminal(columns: int) -> Situation:
    """Returns a situation: a terminal of a width, where the input ends at once."""

    def run(arguments: list[str], folder: Path) -> tuple[int, bytes]:
        line = ["bash", "-c", '"$@" < /dev/null', "bash", *MAIN, *arguments]
        return in_terminal(line, columns, cwd=folder)

    return run


def in_strange_folder(arguments: list[str], folder: Path) -> tuple[int, bytes]:
    """A situation: the current folder has a name that is not UTF-8 and clears the screen."""
    strange = os.path.join(os.fsencode(folder.parent), b"caf\xe9 \x1b[2J")
    if not os.path.lexists(strange):
        os.symlink(folder, strange)
    line = ["bash", "-c", 'cd "$1"; shift; exec "$@"', "bash", strange, *MAIN, *arguments]
    done = subprocess.run(line, capture_output=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


NO_READER = '"$@" | head -1; exit ${PIPESTATUS[0]}'
NO_HOME = {"HOME": None, "XDG_CACHE_HOME": None, "MPLCONFIGDIR": None, "USER": None}
SITUATIONS: dict[str, tuple[Situation, set[int]]] = {  # with the statuses that it adds
    "no stdin": (by_shell('exec "$@" <&-'), set()),
    "no stdout": (by_shell('exec "$@" >&-'), set()),
    "no stderr": (by_shell('exec "$@" 2>&-'), set()),
    "no streams": (by_shell('exec "$@" <&- >&- 2>&-'), set()),
    "head": (by_shell(NO_READER), {PIPE_CLOSED}),
    "head of both": (by_shell(NO_READER.replace("|", "2>&1 |", 1)), {PIPE_CLOSED}),
    "full disk": (by_shell('exec "$@" > /dev/full'), {WRONG_INPUT}),
    "cp1252": (by_shell('exec "$@"', PYTHONIOENCODING="cp1252"), set()),
    "ascii": (by_shell('exec "$@"', PYTHONIOENCODING="ascii"), set()),
    "locale C": (by_shell('exec "$@"', LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"), set()),
    "20 columns": (on_terminal(20), set()),
    "1 column": (on_terminal(1), set()),
    "COLUMNS=1": (by_shell('exec "$@"', COLUMNS="1"), set()),
    "no home": (by_shell('exec "$@"', **NO_HOME), set()),
    "a name that is not UTF-8": (in_strange_folder, {WRONG_INPUT}),
}


def assert_kept(name: str, situation: str, folder: Path) -> None:
    """Runs a command in a situation and checks its status and its words."""
    run, more = SITUATIONS[situation]
    new = f"{name}-{situation.replace(' ', '-')}-{time.monotonic_ns()}"
    before = {path: sha256(path) for path in (folder / "run").glob("*.*")}
    status, shown = run(COMMANDS[name].replace("NEW", new).split(), folder)
    assert status in FULL.get(name, {0}) | more, shown.decode(errors="replace")
    assert b"Traceback" not in shown, shown.decode(errors="replace")
    assert b"Exception ignored" not in shown
    if "column" not in situation and name not in ("generate", "chat"):  # a pipe gets texts as is
        assert not UNSAFE.search(shown.decode("utf-8", "replace"))
    assert before == {path: sha256(path) for path in before}


@pytest.mark.parametrize(
    ("name", "situation"), [("train", "no streams"), ("train", "head"), ("generate", "ascii")]
)
def test_a_command_keeps_its_promises(name: str, situation: str, folder: Path) -> None:
    assert_kept(name, situation, folder)


# what rich itself sends to a terminal: colours, and the cursor at a bar
OF_RICH = re.compile(rb"\x1b\[[\d;]*[mAK]|\x1b\[\?25[lh]|\r")


def test_no_control_sequence_of_a_text_reaches_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text, its file's name and the run's hold such sequences, and so do the samples."""
    hostile = "\x1b]0;x\x07\x1b[2J\x9b31m\x1b]52;c;cHduZWQ=\x07\u202e"
    name = "\x1b]2;y\x07.txt"
    (folder / name).write_text((hostile + "\n") * 300, encoding="utf-8")
    line = f"train --data.tokenizer char --out NEW\x1b[2J --train.max-steps 2 {SMALL}".split()
    status, shown = in_terminal([*MAIN, *line, "--data.path", name], 300, cwd=folder)
    assert status == 0, shown
    left = OF_RICH.sub(b"", shown).decode()
    assert not UNSAFE.search(left), left
    assert "\\x1b" in left and "\\x07" in left
    assert "generate $'NEW\\x1b[2J'" in left
    line = ["generate", "NEW\x1b[2J", "--prompt", hostile, "--max-new-tokens", "9"]
    status, shown = in_terminal([*MAIN, *line], 300, cwd=folder)
    assert status == 0, shown
    left = OF_RICH.sub(b"", shown).decode()
    assert not UNSAFE.search(left) and printable(hostile) in left.replace("\n", "")
    # a file gets the text itself
    monkeypatch.chdir(folder)
    assert main.main(line) == 0
    assert capsys.readouterr().out.startswith(hostile)


@pytest.mark.slow
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_keeps_its_promises(name: str, situation: str, folder: Path) -> None:
    assert_kept(name, situation, folder)


def struck(name: str, new: str, number: int, moment: float, folder: Path) -> tuple[int, bytes]:
    """Sends a signal to a command after some seconds; returns its status and all its words."""
    with subprocess.Popen(
        [*MAIN, *COMMANDS[name].replace("NEW", new).split()],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        shown, _ = process.communicate(timeout=60)
    return process.returncode, shown


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_at_any_moment_loses_nothing(name: str, number: int, folder: Path) -> None:
    """What was struck goes on, or is done again; before Python has begun, the signal ends it."""
    for n in range(N_MOMENTS):
        new = f"{name}-{number}-{n}"
        status, shown = struck(name, new, number, n * SECONDS / N_MOMENTS, folder)
        words = shown.decode(errors="replace")
        allowed = {128 + number, *FULL.get(name, {0})}
        if number != signal.SIGINT or not words:  # not words: main.py has not begun
            allowed.add(-number)
        assert status in allowed, (n, words)
        assert n == 0 or "Traceback" not in words, (n, words)
        if status in (INTERRUPTED, -number, 128 + number) and (folder / new).exists():
            again = GO_ON.get(name, COMMANDS[name])
            if name in GO_ON and not (folder / new / CONFIG_FILE).exists():
                again = COMMANDS[name]
            done = subprocess.run(
                [*MAIN, *again.replace("NEW", new).split()], cwd=folder, capture_output=True
            )
            said = (b"already holds", b"exists; name another folder")
            finished = done.returncode == WRONG_INPUT and any(s in done.stderr for s in said)
            assert done.returncode == 0 or finished, (n, done.stderr)
