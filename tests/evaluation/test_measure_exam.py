"""`evaluate --task` of questions, called as from a shell, on models that follow a script."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import main
from cfg_gpt2 import GPT2Config, RunConfig
from evaluation.exam_report import exam_table, parts_of
from evaluation.result import Figures, Measure, Origin, Result
from finetuning import exam_task
from finetuning.chat_format import Message, encode_prompt
from finetuning.chat_json import ChatSettings, write_chat_settings
from finetuning.own_words import draw_cues
from finetuning.tiny_questions.exam import exam
from gpt2 import GPT2Model
from run_directory.config_file import write_config
from tokenizer import Tokenizer

ANSWER = "In the hall."
QUESTIONS = [  # all equally long, so that the model, which counts positions, answers them alike
    {"prompt": "Where is Max?", "answer": ANSWER, "kind": "where"},
    {"prompt": "Where is Ann?", "answers": ["At home.", ANSWER], "kind": "where"},
    {"prompt": "Where is Tom?", "answer": "At home.", "kind": "where"},
    {"prompt": "Is it a ball?", "answer": "No.", "kind": "unsaid"},
]
LONG = {"prompt": "Where is Max? " * 30, "answer": ANSWER, "kind": "long"}


def save_run(folder: Path, says: str, *, is_tuned: bool = True, context_length: int = 96) -> None:
    """Writes a run that says the same to all prompts that are as long as QUESTIONS."""
    text = "".join(chr(i) for i in range(32, 127)) + "\n"
    tokenizer = Tokenizer.characters([text])
    prompt = encode_prompt((Message("user", "Where is Max?"),), tokenizer)
    script = [0] * (len(prompt) - 1) + [*tokenizer.encode(says), tokenizer.end_of_text]
    script += [0] * (context_length - len(script))
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        context_length=context_length,
        n_layer=1,
        n_head=2,
        n_embd=64,
    )
    torch.manual_seed(3)
    model = GPT2Model(config)
    with torch.no_grad():
        embedding = torch.nn.functional.normalize(torch.randn(config.vocab_size, 64))
        model.token_embedding.weight.copy_(embedding)
        model.position_embedding.weight.copy_(8 * embedding[torch.tensor(script)])
    write_config(folder, RunConfig(model=config))
    tokenizer.save(folder)
    model.save(folder)
    if is_tuned:
        settings = ChatSettings(method="sft", base="base", data=("a.jsonl",), base_sha256="0")
        write_chat_settings(folder, settings)


@pytest.fixture(scope="module")
def folder_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with questions and three runs, one of them not tuned."""
    folder = tmp_path_factory.mktemp("exam")
    for name, says in (("hall", ANSWER), ("no", "No."), ("base", ANSWER)):
        (folder / name).mkdir()
        save_run(folder / name, says, is_tuned=name != "base")
    lines = [json.dumps(question) + "\n" for question in (*QUESTIONS, LONG)]
    (folder / "questions.jsonl").write_text("".join(lines[:4]))
    (folder / "with_long.jsonl").write_text("".join(lines))
    (folder / "long.jsonl").write_text(lines[4])
    (folder / "broken.jsonl").write_text(lines[0] + '{"prompt": "a"}\n')
    many = [json.dumps(QUESTIONS[0] | {"kind": str(n)}) for n in range(101)]
    (folder / "kinds.jsonl").write_text("\n".join(many))
    long_kind = {"prompt": "Where?", "answer": "here", "kind": "a\n" + 5000 * "k" + "\x1b"}
    (folder / "long_kind.jsonl").write_text(json.dumps(long_kind))
    return folder


@pytest.fixture(autouse=True)
def inside(folder_of_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder_of_runs)
    return folder_of_runs


def result(run: str, name: str) -> dict:
    return json.loads(Path(run, "evaluation", f"{name}.json").read_text(encoding="utf-8"))


def test_an_exam_gives_figures_rows_a_table_and_a_picture(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["evaluate", "hall", "--task", "questions.jsonl", "--device", "cpu"]) == 0
    content = result("hall", "questions")
    figures = content["figures"]
    assert (figures["items"], figures["accuracy"], figures["ended"]) == (4, 0.5, 1.0)
    assert (figures["kind/where/accuracy"], figures["kind/unsaid/accuracy"]) == (2 / 3, 0)
    assert (figures["refusal_precision"], figures["refusal_recall"]) == (None, 0)
    assert content["measure"]["what"] == "exam" and content["measure"]["limit"] is None
    lines = Path("hall/evaluation/questions.items.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["right"] for row in rows] == [True, True, False, False]
    assert rows[2]["answer"] == ANSWER and rows[2]["prompt"][0]["content"] == "Where is Tom?"
    wrong = Path("hall/evaluation/questions.wrong.txt").read_text()
    assert "user: Where is Tom?\nanswered: In the hall.\nright: At home.\n" in wrong
    assert "Ann" not in wrong
    assert Path("hall/evaluation/questions.png").read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert table[0].split() == ["right,", "in", "%", "questions", "hall", "best", "simple", "rule"]
    assert [line.split()[:3] for line in table[1:4]] == [
        ["where", "3", "66.7"], ["unsaid", "1", "0.0"], ["all", "4", "50.0"],
    ]  # fmt: skip


def test_runs_are_compared_kind_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    line = "evaluate hall --compare no base --task questions.jsonl"
    assert main.main(line.split()) == 0
    output = capsys.readouterr().out
    assert "base has no chat.json: it is asked in the chat template, which it has not" in output
    table = output.split("\n\n")[1].splitlines()
    assert table[0].split()[4:7] == ["hall", "no", "base"]
    [where] = [row for row in table if row.startswith("where")]
    assert [cell for cell in where.split() if "." in cell and ")" not in cell and "(" not in cell]
    assert where.split()[2] == "66.7" and where.split()[6] == "0.0" and where.split()[10] == "66.7"
    assert [result(run, "questions")["figures"]["accuracy"] for run in ("hall", "no", "base")] == [
        0.5, 0.25, 0.5,
    ]  # fmt: skip


def test_a_limit_spreads_over_the_file_and_has_a_result_of_its_own() -> None:
    shutil.copytree("hall", "limited", ignore=shutil.ignore_patterns("evaluation"))
    for limit in ([], ["--limit", "2"]):
        line = ["evaluate", "limited", "--task", "questions.jsonl", *limit]
        assert main.main(line) == 0
    files = list(Path("limited/evaluation").glob("questions*.json"))
    contents = [json.loads(file.read_text()) for file in files]
    assert sorted(one["figures"]["items"] for one in contents) == [2, 4]
    [limited] = [one for one in contents if one["measure"]["limit"] == 2]
    assert limited["figures"]["accuracy"] == 0.5  # the first question and the third
    os.remove(files[0])


def test_questions_beyond_the_context_are_left_out_and_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["evaluate", "hall", "--task", "with_long.jsonl"]) == 0
    assert "1 of 5 questions are left out" in capsys.readouterr().out
    figures = result("hall", "with_long")["figures"]
    assert figures["left_out"] == 1 and figures["items"] == 4
    assert "kind/long/accuracy" not in figures


def test_the_answers_in_bf16_are_the_same() -> None:
    line = "evaluate hall --task questions.jsonl --precision bf16 --device cpu"
    assert main.main(line.split()) == 0
    assert result("hall", "questions")["figures"]["accuracy"] == 0.5


def test_a_run_that_is_not_tuned_is_examined_in_the_worlds_own_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    items = exam_task.items_of(exam("tiny-questions", 1), "")
    monkeypatch.setattr(exam_task, "built_in_items", lambda task: items)
    monkeypatch.setattr(exam_task, "draw_cues", lambda task: draw_cues(task, 2))
    line = ["evaluate", "base", "--task", "tiny-questions"]
    assert main.main(line) == 2  # no beginning of a story fits into 96 characters
    assert "none of 12 questions fits into the model's context of 96" in capsys.readouterr().err
    shutil.copytree("base", "wide")
    save_run(Path("wide"), ANSWER, is_tuned=False, context_length=1000)
    assert main.main(["evaluate", "wide", *line[2:], "--limit", "6"]) == 0
    output = capsys.readouterr().out
    assert "has no chat.json: tiny-questions in the world's own words, 6 beginnings" in output
    figures = result("wide", "tiny-questions-in-own-words")["figures"]
    assert figures["items"] + figures["set/busy afternoons/items"] == 6 and "ended" not in figures
    rows = Path("wide/evaluation/tiny-questions-in-own-words.items.jsonl").read_text().splitlines()
    assert [json.loads(row)["right"] for row in rows].count(True) == 6 * figures["accuracy"] == 0


WRONG = {
    "no such file": ("evaluate hall --task no.jsonl", "no.jsonl does not exist"),
    "a broken row": ("evaluate hall --task broken.jsonl", "broken.jsonl"),
    "only long ones": (
        "evaluate hall --task long.jsonl",
        "none of 1 questions fits into the model's context of 96 tokens",
    ),
    "too many kinds": ("evaluate hall --task kinds.jsonl", "has 101 kinds of question"),
    "a kind of many lines": (
        "evaluate hall --task long_kind.jsonl", "has a kind of question of 5,006 characters",
    ),
    "no task": ("evaluate hall --task tiny", "--task tiny is unknown; choose one of lambada"),
    "a file for a built-in exam": (
        "evaluate hall --task tiny-questions questions.jsonl", "brings its own questions",
    ),
    "two files": (
        "evaluate hall --task questions.jsonl long.jsonl", "names 2 files; name one",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_input_ends_with_one_sentence_and_status_2(
    line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error
    assert error.count("\n") == 1 and "Traceback" not in error


def result_of(run: str, figures: Figures) -> Result:
    measure = Measure(what="exam", name="q", about="q", paths=("q",), sha256="0")
    origin = Origin(
        run=run, parameters=1, context_length=1, vocab_size=1, weights_sha256="", step=None,
        tokenizer_sha256="", device="cpu", precision="fp32", batch_size=None, torch="", python="",
        date="",
    )  # fmt: skip
    return Result(command="", measure=measure, origin=origin, figures=figures, seconds=1.0)


def test_the_table_has_the_kinds_then_all_then_held_out_sets_and_the_best_rule() -> None:
    part = {"items": 10, "accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75}
    figures = {**part, "ended": 0.9, "baseline always": 0.1}
    figures |= {f"set/long/{name}": value for name, value in part.items()}
    figures |= {f"kind/a/b/{name}": value for name, value in part.items()}
    figures |= {"kind/a/b/baseline first": 0.3, "kind/a/b/baseline last": 0.4}
    other = {**part, "accuracy": None}
    assert parts_of(figures)["kind/a/b"]["baseline last"] == 0.4
    assert exam_table([result_of("x", figures), result_of("y", other)]) == [
        ["right, in %", "questions", "x", "y", "best simple rule"],
        ["a/b", "10", "50.0 (25.0 to 75.0)", "-", "40.0 last"],
        ["all", "10", "50.0 (25.0 to 75.0)", "-", "10.0 always"],
        ["long", "10", "50.0 (25.0 to 75.0)", "-", "-"],
        ["ended by itself", "", "90.0", "-", ""],
    ]
