"""Every printed next step can be pasted: it is read back by shlex and runs as it stands."""

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest

import main

SMALL = "--model.n-layer 1 --model.n-embd 16 --model.n-head 2 --model.context-length 16 "
SMALL += "--train.max-steps 1 --train.batch-size 4 --train.device cpu --data.vocab-size 300"
NAMES = ["a b's", 'my "run" [1] $HOME', "-x;y", "книга & co"]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names that Windows has not")


def printed_command(said: str) -> list[str]:
    """Returns the arguments of the last command in what was printed."""
    return shlex.split(re.findall(r"python main\.py (.+)", said)[-1])


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_command_runs_as_it_stands_whatever_the_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "verse.txt").write_text("Мама мыла раму, Once upon a time. " * 40, encoding="utf-8")
    run, folder, again, shards = (f"./{name}{n}" for n in ("", " hf", " again", " shards"))
    assert main.main([*f"train --data.path verse.txt {SMALL}".split(), "--out", run]) == 0
    assert main.main([*printed_command(capsys.readouterr().out), "--max-new-tokens", "2"]) == 0
    assert main.main(["train", "--out", run, "--data.path", "verse.txt"]) == 2
    said = capsys.readouterr().err
    assert shlex.split(re.findall(r"--resume (.+), or", said)[0]) == [quotable(run)]
    assert main.main(["export", run, "--out", folder]) == 0
    snippet = re.findall(r"from_pretrained\((.+)\)", capsys.readouterr().out)[0]
    assert Path(ast.literal_eval(snippet)) == Path(folder)
    assert main.main(["import", folder, "--out", again]) == 0
    assert main.main([*printed_command(capsys.readouterr().out), "--max-new-tokens", "2"]) == 0
    if name != NAMES[0]:  # its processes take a while to start
        return
    line = "prepare --workers 1 --data.path verse.txt --data.vocab-size 300 --out"
    assert main.main([*line.split(), shards]) == 0
    assert printed_command(capsys.readouterr().out) == ["train", "--data.path", quotable(shards)]


def quotable(name: str) -> str:
    """Returns a name as it is printed: with ./ only where it would be read as something else."""
    plain = name.removeprefix("./")
    return name if plain.startswith(("-", "~")) else plain
