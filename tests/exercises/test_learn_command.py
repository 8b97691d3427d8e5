"""`learn` as a beginner meets it: start, check, hint, look, show, and one sentence for a mishap."""

import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from oracles.right_answers import RIGHT

import main
from commands.language import Language
from exercises import english, russian
from exercises.catalogue import EXERCISES, load_exercise
from exercises.check import check_text
from exercises.child import run_in_child
from exercises.exercise import Exercise
from exercises.hints import GAP, rungs
from exercises.look import drawn
from exercises.progress import record
from exercises.source import HEADER, edited, module_of, solution_of

CRASHES = {  # what the code does -> the key of the sentence
    "while True: pass": "endless",
    "import sys; sys.exit(0)": "exit_called",
    "import os; os._exit(3)": "exited",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "killed",
    "torch.zeros(10**10)": "memory",
    "return None": "no_tensor",
    "x.add_(1); return x": "input_changed",
    "return x @ x": "crash",
    "return getattr(nn.functional, 'ge' + 'lu')(x)": "forbidden_call",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine"


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main.main(["learn", *arguments])
    got = capsys.readouterr()
    return status, got.out + got.err


def gelu_with(body: str) -> str:
    lines = HEADER + "class GELU(nn.Module):\n    def forward(self, x):\n"
    return lines + "".join(f"        {line}\n" for line in body.splitlines())


def file_with(exercise: Exercise, *names: str) -> str:
    """Returns a learner's file with some known mistakes in it."""
    return HEADER + (edited(exercise, [exercise.mistake(name) for name in names]) or "")


def test_from_start_to_passed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = said(capsys, "start", "attention")
    path = folder / "multiheadattention.py"
    assert status == 0 and "learn check attention" in text and "softmax(q k^T" in text
    assert said(capsys, "check", "attention")[0] == 1
    path.write_text(file_with(load_exercise("attention"), "unscaled"), encoding="utf-8")
    status, text = said(capsys, "check", "attention")
    assert status == 1 and "Known mistake: unscaled" in text and "learn hint attention" in text
    for label in ("check", "output", "place", "computed", "expected", "difference", "allowed"):
        assert label in text
    status, text = said(capsys, "hint", "attention")
    assert "variance of a sum of D products" in text
    assert GAP not in said(capsys, "hint", "attention")[1]
    assert "scores = q @ k.transpose(-2, -1)" + GAP in said(capsys, "hint", "attention")[1]
    assert "learn show attention" in said(capsys, "hint", "attention")[1]
    path.write_text(RIGHT["attention"]["einsum"], encoding="utf-8")
    status, text = said(capsys, "check", "attention")
    assert status == 0 and "learn train attention" in text
    assert re.search(r"attention .* done +checks 3, hints 3", said(capsys)[1])
    path.write_text(RIGHT["attention"]["nanoGPT"], encoding="utf-8")
    assert re.search(r"attention .* changed, check again", said(capsys)[1])


@pytest.mark.parametrize("change", ["edit", "cut", "reorder", "break"])
def test_a_changed_log_is_said_and_never_stops_learning(
    change: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    for number in range(4):
        record(folder, "gelu", "check", f"result {number}", folder / "gelu.py")
    assert "was edited or cut" not in said(capsys)[1]
    log = folder / "progress.jsonl"
    lines = log.read_text().splitlines()
    changed = {
        "edit": [lines[0].replace("result 0", "passed"), *lines[1:]],
        "cut": [lines[0], *lines[2:]],
        "reorder": [lines[1], lines[0], *lines[2:]],
        "break": [*lines[:2], lines[2][:20], lines[3]],
    }[change]
    log.write_text("\n".join(changed) + "\n")
    status, text = said(capsys)
    assert status == 0 and "was edited or cut" in text
    assert said(capsys, "start", "gelu")[0] == 0


def test_a_file_that_is_there_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "start", "gelu")
    (folder / "gelu.py").write_text("# mine", encoding="utf-8")
    assert "stays as it is" in said(capsys, "start", "gelu")[1]
    assert (folder / "gelu.py").read_text() == "# mine"


def test_a_verdict_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir()
    text = file_with(load_exercise("layer-norm"), "eps_outside")
    (folder / "layer_norm.py").write_text(text, encoding="utf-8")
    status, text = said(capsys, "check", "--json", "--language", "ru")
    record = json.loads(text)
    assert status == 1 and record["mistakes"] == ["eps_outside"] and not record["passed"]
    assert abs(record["computed"] - record["expected"]) > record["allowed"]
    assert "под корнем" in record["asks"][0]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_is_not_begun_and_an_empty_file_has_no_class(name: str, tmp_path: Path) -> None:
    exercise = load_exercise(name)
    path = tmp_path / exercise.file
    assert check_text(exercise, exercise.stub, path, 1).result == "not_begun"
    assert check_text(exercise, "", path, 1).result == "no_class"
    module = exercise.part.__module__
    borrowed = f"from {module} import {exercise.part.__name__}\n"
    assert check_text(exercise, borrowed, path, 1).result == "forbidden"


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stub_has_the_signatures_of_the_root_file(name: str) -> None:
    exercise = load_exercise(name)
    stub = getattr(module_of(exercise.stub, "stub", "stub"), exercise.part.__name__)
    for method in ("__init__", "forward"):
        mine, root = (
            list(inspect.signature(getattr(part, method)).parameters)
            for part in (stub, exercise.part)
        )
        assert mine == root


@pytest.mark.parametrize("body", CRASHES)
def test_whatever_the_code_does_ends_in_a_sentence(body: str, tmp_path: Path) -> None:
    path = tmp_path / "gelu.py"
    ran = run_in_child("gelu", gelu_with(body), path, 1, seconds=2.0)
    failure = ran.failure or next(case for case in ran.cases if not isinstance(case, dict))
    assert failure.key == CRASHES[body]  # type: ignore[union-attr]
    assert english.FAILURES[failure.key].format(**failure.values)  # type: ignore[union-attr]


def test_prints_are_shown_and_an_error_names_its_line_and_shapes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    body = "print('shape', x.shape)\ny = torch.zeros(5, 2)\nreturn x @ y"
    (folder / "gelu.py").write_text(gelu_with(body), encoding="utf-8")
    status, text = said(capsys, "check", "gelu")
    line = 1 + gelu_with(body).splitlines().index("        return x @ y")
    assert status == 1 and f"Line {line} raises RuntimeError" in text
    assert "y (5, 2)" in text and "shape torch.Size([97])" in text


def test_made_up_answers_are_refused(tmp_path: Path) -> None:
    exercise = load_exercise("gelu")
    path = tmp_path / "gelu.py"
    [first, *_] = exercise.cases(2)
    body = f"return torch.tensor({exercise.part()(first.inputs[0]).tolist()})"
    assert not check_text(exercise, gelu_with(body), path, 2).passed
    always = "class Equal(torch.Tensor):\n    def __eq__(self, other): return True\n"
    text = HEADER + always + gelu_with("return x.as_subclass(Equal)").removeprefix(HEADER)
    assert check_text(exercise, text, path, 1).result == "no_tensor"
    patched = gelu_with("torch.allclose = torch.equal = lambda *a, **k: True\nreturn x * 1")
    assert not check_text(exercise, patched, path, 1).passed


def test_look_shows_a_leak_where_there_is_one_and_none_where_there_is_none(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exercise = load_exercise("attention")
    folder.mkdir()
    path = folder / exercise.file
    path.write_text(file_with(exercise, "one_later"), encoding="utf-8")
    status, _ = said(capsys, "look", "attention", "--png", "look.png")
    assert status == 0 and Path("look.png").read_bytes().startswith(b"\x89PNG")
    solution = torch.stack([panel.values for panel in exercise.look(exercise.solution)])
    assert (solution.triu(1) < 1e-6).all()
    ran = run_in_child("attention", path.read_text(), path, 1, looks=True)
    leaking = ran.cases[0]
    assert isinstance(leaking, dict) and (leaking["1"].triu(1) > 0.01).any()


def test_a_map_in_characters() -> None:
    lines = drawn(torch.tensor([[0.0, 1.0], [0.5, float("nan")]]), ["a", "bb"])
    assert lines == [" a |  @|", "bb |+ ?|"]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_first_two_hints_of_a_mistake_hold_no_line_of_the_solution(name: str) -> None:
    exercise = load_exercise(name)
    code = [line.partition("  #")[0].strip() for line in solution_of(exercise).splitlines()]
    lines = [line for line in code if len(line) > 12]
    for mistake in exercise.mistakes:
        for language in ("en", "ru"):
            first, second, third = rungs(exercise, (mistake,), language)
            assert not [line for line in lines if line in first or line in second], mistake.name
            assert GAP in third and not [line for line in lines if line in third], mistake.name


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", text))


def test_both_languages_have_the_same_texts() -> None:
    for table in ("LABELS", "AXES", "OUTPUTS", "FAILURES", "FACTS"):
        one, other = getattr(english, table), getattr(russian, table)
        assert one.keys() == other.keys(), table
        for key in one:
            assert placeholders(one[key]) == placeholders(other[key]), key
            assert one[key].isascii() and not other[key].isascii(), key


@pytest.mark.parametrize("name", EXERCISES)
def test_every_text_of_an_exercise_is_in_two_languages(name: str) -> None:
    exercise = load_exercise(name)
    texts = [exercise.task, *exercise.hints]
    texts += [text for mistake in exercise.mistakes for text in (mistake.says, mistake.asks)]
    for text in texts:
        assert text.en.isascii() and re.search("[а-я]", text.ru), text.en


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["attention"], "did you mean learn check attention"),
        (["check", "atention"], "is no exercise; choose one of gelu"),
        (["start"], "needs the name of an exercise"),
        (["check", "gelu"], "begin with python main.py learn start gelu"),
        (["train", "gelu"], "does not exist"),
    ],
)
def test_wrong_words_end_in_one_sentence(
    arguments: list[str], sentence: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = said(capsys, *arguments)
    assert status == 2 and sentence in text and len(text.splitlines()) == 1


@pytest.mark.parametrize("language", ["en", "ru"])
def test_the_list_begins_with_the_first_exercise(
    language: Language, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = said(capsys, "--language", language)
    assert status == 0 and text.rstrip().endswith("python main.py learn start gelu")
