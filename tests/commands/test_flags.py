"""Flags: what a person is told who types a wrong one, or asks for help, and how soon."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import main
from commands import nanogpt
from commands.train_settings import read_train_command

ROOT = Path(main.__file__).parent
COMMANDS = [*main.COMMANDS, "benchmark training", "benchmark tokenizing"]
NOT_NEEDED = ["torch", "numpy", "tokenizers", "safetensors", "matplotlib", "rich"]
LONG_TEXTS = [  # the docstrings of settings that have several lines in the source
    [line.strip() for line in str(node.value.value).splitlines()]
    for file in [ROOT / "cfg_gpt2.py", *ROOT.glob("*/*settings.py"), *ROOT.glob("*/*/settings.py")]
    for owner in ast.parse(file.read_text(encoding="utf-8")).body
    if isinstance(owner, ast.ClassDef)
    for node in owner.body
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if "\n" in str(node.value.value) and node is not owner.body[0]
]
ASK_ALL = """
import contextlib, io, json, sys
import main
replies = {}
for line in json.loads(sys.argv[1]):
    replies[line] = reply = [None, io.StringIO(), io.StringIO()]
    with contextlib.redirect_stdout(reply[1]), contextlib.redirect_stderr(reply[2]):
        try:
            reply[0] = main.main(line.split())
        except SystemExit as stopped:
            reply[0] = stopped.code
    reply[1:] = [said.getvalue() for said in reply[1:]]
print(json.dumps([replies, [name for name in json.loads(sys.argv[2]) if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def asked() -> tuple[dict[str, list], list[str]]:
    """The replies of all commands to --help and a wrong flag, and what was imported for them."""
    lines = [f"{name} {flag}" for name in COMMANDS for flag in ("--help", "--no-such-flag")]
    done = subprocess.run(
        [sys.executable, "-c", ASK_ALL, json.dumps(lines), json.dumps(NOT_NEEDED)],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True,
        env=os.environ | {"PYTHONUTF8": "1", "COLUMNS": "9999"},
    )  # fmt: skip
    return tuple(json.loads(done.stdout))


def test_help_and_a_wrong_flag_need_neither_torch_nor_any_other_large_package(
    asked: tuple[dict[str, list], list[str]],
) -> None:
    replies, imported = asked
    assert imported == []
    assert all("usage: main.py" in replies[f"{name} --help"][1] for name in COMMANDS[:-3])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_flag_is_one_sentence_that_names_it(
    name: str, asked: tuple[dict[str, list], list[str]]
) -> None:
    status, output, said = asked[0][f"{name} --no-such-flag"]
    assert (status, output) == (2, "")
    assert said.startswith("error: ") and said.count("\n") == 1
    if name != "benchmark":  # whose first word is the target
        assert "--no-such-flag" in said and f"see python main.py {name} --help" in said


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "benchmark"])
def test_a_help_text_of_several_lines_is_one_paragraph(
    name: str, asked: tuple[dict[str, list], list[str]]
) -> None:
    said = asked[0][f"{name} --help"][1]
    assert not [text for text in LONG_TEXTS if text[0] in said and " ".join(text) not in said]


WRONG = {
    "train --max-iters 2000": "--max-iters is --train.max-steps here",
    "train --max_iters=2000": "--max_iters is --train.max-steps here",
    "train --train.max_iters=2000": "--train.max_iters is --train.max-steps here",
    "train --eval-only": "--eval-only is a command here: main.py evaluate RUN",
    "train --train.gradient-accumulation-steps 4": "is --train.micro-batch here, the windows of",
    "train --wandb_log=True": "--wandb_log is not needed: metrics.jsonl",
    "train --batch_size=12": "--batch_size is --train.batch-size here, which counts the windows",
    "train --block_size 64": "--block_size is --model.context-length here",
    "train --compile=False": "--compile is --train.compile here, on or off",
    "train --dtype float16": "--dtype is --train.precision here",
    "train --always-save-checkpoint": "--train.keep-checkpoints says how many",
    "train --n_layer=4": "perhaps you meant --model.n-layer;",
    "train --train.n-layer 4": "perhaps you meant --model.n-layer;",
    "train --seed 1 --dropout 0": "perhaps you meant --train.seed; perhaps you meant --model.drop",
    "plan --lr_decay_iters 9": "--lr_decay_iters is not needed",
    "generate r --start FILE:p.txt": "--start is --prompt TEXT here, or --prompt-file FILE",
    "generate --init-from gpt2 r": "the run is named first, as in main.py generate runs/tiny",
    "generate r --num_samples 3": "--num_samples is --samples here",
    "train --init_from=gpt2-xl": "run directory; make one by main.py import gpt2-xl",
    "train --init-from resume": "go on with a run by --resume RUN",
    "train --init-from=scratch": "leave it out to begin from random weights",
    "train --config my.py": "--config my.py is Python; name a config.json, or give the flags",
    "plan --config=runs/no": "--config runs/no does not exist; name a config.json, such as",
    "train --train.max-steps 0": "; main.py evaluate RUN measures without training",
    "train --train.learning-rate 1e-6": "try --train.final-learning-rate 1e-07",
    "train --train.learning-rate 0": "--train.learning-rate 0.0 must be positive and at most",
    "train --data.path -n.txt": "if it is the value of --data.path, write --data.path=-n.txt",
    "generate r --prompt -h.txt": "--prompt=-h.txt",
    "generate r --stop --": "--stop needs a value; if -- is meant, write --stop=--",
    "train --out --resume": "--out needs a value; if --resume is meant, write --out=--resume",
    "train --train.max-steps many": "--train.max-steps many is not a whole number; see python",
    "train --data.vocab-size 2k": "--data.vocab-size 2k is not a whole number; see python",
    "plan --tokens 20GB": "--tokens 20GB is the size of a text; name the text by",
    "generate r --temperature warm": "--temperature warm is not a number; see python",
    "train --train.device tpu": "--train.device tpu is unknown; choose one of 'auto', 'cpu', ",
    "train config/shakespeare.py": "name a text by --data.path and a config.json by --config;",
    "generate r hello": "give a prompt by --prompt;",
    "generate r --json true": "--json takes no value, --no-json turns it off;",
    "train --train.activation-checkpointing False": ", --train.no-activation-checkpointing turns",
    "train --nonsense 5": "Unrecognized options: --nonsense, 5; see python",
    "generate": "PATH a run directory, such as runs/tiny",
}


@pytest.mark.parametrize(("line", "words"), WRONG.items(), ids=WRONG)
def test_a_wrong_flag_is_told_what_to_write_instead(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1")  # sentences are not broken where the terminal is narrow
    assert main.main(line.split()) == 2
    said = capsys.readouterr().err
    assert words in said and said.startswith("error: ") and said.count("\n") == 1


def test_a_value_with_spaces_that_begins_with_a_dash_is_quoted_in_the_advice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["generate", "r", "--prompt", "--help me"]) == 2
    assert "if --help me is meant, write --prompt='--help me'" in capsys.readouterr().err


def test_every_flag_that_a_hint_names_exists(asked: tuple[dict[str, list], list[str]]) -> None:
    for command, hints in nanogpt.HINTS.items():
        for text in hints.values():
            elsewhere = re.search(r"main.py (\w+)", text)
            help_of = elsewhere[1] if elsewhere else "train" if command == "plan" else command
            for flag in re.findall(r"--[\w.-]+\w", text):
                assert flag in asked[0][f"{help_of} --help"][1], text


def test_settings_of_a_source_are_found_however_its_flag_is_written() -> None:
    for flag in (["--preset", "book"], ["--preset=book"]):
        assert read_train_command(flag).model.context_length == 256
    assert read_train_command(["--preset", "gpt2", "--preset=book"]).preset == "book"
    assert read_train_command(["--preset=gpt2", "--preset", "tiny"]).model.n_embd == 128
    for line in (["--init_from", "nope"], ["--init-from=nope"], ["--init_from=nope"]):
        with pytest.raises(FileNotFoundError, match="nope"):
            read_train_command(line)


@pytest.mark.parametrize("columns", [1, 2, 5, 19, 20, 40])
@pytest.mark.parametrize("name", ["train", "generate", "benchmark decoding"])
def test_help_ends_on_a_narrow_terminal(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit, match="0"):
        main.main([*name.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[5:])) <= max(20, columns)
    assert os.environ["COLUMNS"] == str(columns)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals in Python")
def test_a_terminal_shows_that_a_command_is_loaded() -> None:
    ours, theirs = os.openpty()
    line = [sys.executable, str(ROOT / "main.py"), "prepare", "--check", "nothing"]
    subprocess.run(line, stderr=theirs)
    os.close(theirs)
    said = os.read(ours, 10_000)
    os.close(ours)
    assert said.startswith(b"loading ...\r           \rerror: nothing")
