"""The READMEs: their commands run, their links lead somewhere, and both say the same."""

import re
import shlex
from pathlib import Path
from typing import NoReturn

import pytest
import torch

import main
from benchmarks.interleaved import Measurement, WorkerFailed
from benchmarks.job import Job, Round
from cfg_gpt2 import PRESETS
from finetuning.tiny_questions.dialogues import Example
from finetuning.tiny_questions.exam import exam
from gpt2 import GPT2Model

ROOT = Path(main.__file__).parent
READMES = [ROOT / "README.md", ROOT / "README.ru.md"]
VERSE = "Однажды the cat sat on the mat, and once upon a time it slept. " * 200
TINY = [
    "--model.n-layer", "1", "--model.n-embd", "16", "--model.n-head", "2",
    "--model.context-length", "176", "--train.max-steps", "2", "--train.device", "cpu",
]  # fmt: skip


def commands(readme: Path) -> list[list[str]]:
    """The arguments of every `python main.py ...` in the code blocks and in the text."""
    text = readme.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", text)
    return [shlex.split(line)[2:] for line in lines if line.startswith("python main.py")]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_every_command_of_the_readme_runs(
    readme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, in small. Of the Russian one those run that are not in the English one as they are."""
    monkeypatch.chdir(tmp_path)
    for name in ("book.txt", "книга.txt", "letters.txt", "письма.txt"):
        (tmp_path / name).write_text(VERSE, encoding="utf-8")
    for name in ("dialogues.jsonl", "диалоги.jsonl"):
        rows = (f'{{"prompt": "Who sat {n}?", "completion": "The cat."}}' for n in range(20))
        (tmp_path / name).write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.setattr("benchmarks.command.roofline_of", no_roofline)
    monkeypatch.setattr("benchmarks.command.measure", one_round)
    monkeypatch.setattr("finetuning.exam_task.exam", short_exam)
    monkeypatch.setattr("uvicorn.Server.run", ends_at_once)
    english = commands(READMES[0])
    said = english if readme == READMES[0] else [c for c in commands(readme) if c not in english]
    said = [said[n] for n in range(len(said)) if said[n] not in said[:n]]
    assert len(said) >= 5
    for arguments in sorted(said, key=bool):  # the default run first: others begin from it
        if "--help" in arguments:
            with pytest.raises(SystemExit, match="0"):
                main.main(arguments)
            continue
        if arguments[:1] == ["doctor"]:  # two steps are no healthy run
            assert main.main(arguments) in (0, 1), arguments
            continue
        assert main.main([*arguments, *small(arguments)]) == 0, arguments


def no_roofline(job: Job, scratch: Path) -> NoReturn:
    raise WorkerFailed("tests/benchmarks measures it")


def one_round(jobs: list[Job], *others: object, profile: bool) -> list[Measurement]:
    rounds = [Round(units=1, seconds=1.0, memory=0)]  # tests/benchmarks starts the processes
    return [Measurement(job=job, rounds=rounds) for job in jobs]


def ends_at_once(server: object, sockets: object) -> None:
    """In the place of a server that answers until it is interrupted."""


def short_exam(task: str, n_per_kind: int = 0, part: str = "seen") -> list[Example]:
    return exam(task, 2, part)


def small(arguments: list[str]) -> list[str]:
    """Flags that make a command a matter of a second."""
    command = arguments[0] if arguments and not arguments[0].startswith("-") else "train"
    if command == "benchmark":
        return ["--peers", "none", "--device", "cpu", "--out", "measured"]
    if command == "finetune":
        few = ["--train.max-steps", "2", "--train.batch-size", "4", "--train.device", "cpu"]
        named = ".jsonl" in " ".join(arguments)
        return [*few, "--leave-out-long", *([] if named else ["--examples", "24"])]
    if command == "train" and "--resume" not in arguments:
        told = "--data.path" not in arguments or "tiny-world-ru" in arguments
        return [*TINY, *(["--data.stories", "200"] if told else [])]
    if command == "serve":
        return ["--port", "0"]
    return ["--limit", "20"] if "--task" in arguments else []


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_links_and_pictures_lead_to_files(readme: Path) -> None:
    targets = re.findall(r"\]\((?!https:)([^)#]+)\)", readme.read_text(encoding="utf-8"))
    assert len(targets) > 15
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_both_languages_give_the_same_commands() -> None:
    english, russian = ([shape(c) for c in commands(readme)] for readme in READMES)
    assert sorted(english) == sorted(russian)


def test_the_tables_of_both_languages_have_the_same_figures() -> None:
    english, russian = (figures(readme) for readme in READMES)
    assert len(english) > 40
    assert english == russian


def figures(readme: Path) -> list[list[float]]:
    """The numbers of each table row: 1,234.5 in English and 1 234,5 in Russian are the same."""
    rows = re.findall(r"^\|.+\|$", readme.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if readme.name == "README.md":
        rows = [re.sub(r"(?<=\d),(?=\d{3})", "", row) for row in rows]
    else:
        rows = [re.sub(r"(?<=\d) (?=\d{3}\b)", "", row) for row in rows]
        rows = [re.sub(r"(?<=\d),(?=\d)", ".", row) for row in rows]
    return [sorted(map(float, re.findall(r"\d+(?:\.\d+)?", row))) for row in rows]


def shape(arguments: list[str]) -> tuple[str, ...]:
    """A command without the words that are in one language only."""
    return tuple(a for a in arguments if a.startswith("--") or a in main.COMMANDS)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
def test_the_presets_of_the_readme_are_the_presets(readme: Path) -> None:
    rows = re.findall(
        r"^\| `(\S+)` \| ([^|]+) \| (\d+), (\d+), (\d+) \| (\d+) \|$",
        readme.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert [row[0] for row in rows] == list(PRESETS)
    for name, parameters, *sizes in rows:
        config = PRESETS[name]
        stated = [config.n_layer, config.n_head, config.n_embd, config.context_length]
        assert [int(size) for size in sizes] == stated
        digits = re.sub(r"\D", "", parameters)
        if len(digits) > 7:
            with torch.device("meta"):
                assert int(digits) == GPT2Model(config).n_parameters()
