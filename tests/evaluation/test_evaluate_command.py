"""The command `evaluate`, called as from a shell."""

import hashlib
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import main
from evaluation.report import format_figure
from gpt2 import GPT2Model
from load_data import Split, evaluation_batches
from loss import bits_per_byte, next_token_loss
from tokenizer import Tokenizer

VERSE = "Мама мыла раму: the cat sat on the mat. " * 40
SMALL = [
    "--model.n-layer", "1", "--model.n-embd", "16", "--model.n-head", "2",
    "--model.context-length", "16", "--train.max-steps", "4", "--train.batch-size", "4",
    "--train.eval-every", "2", "--train.device", "cpu",
    "--train.precision", "fp32",  # evaluate's, or the two figures differ by bf16's rounding
]  # fmt: skip
ITEMS = {
    "lambada": {"text": "the cat sat on the mat"},
    "hellaswag": {
        "activity_label": "the cat", "ctx_a": "a cat", "ctx_b": "", "endings": ["sat", "the mat"],
        "label": 1,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, items and three runs: by characters, by bpe, and on a world."""
    folder = tmp_path_factory.mktemp("evaluate")
    before = Path.cwd()
    os.chdir(folder)
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    (folder / "other.txt").write_text("the mat sat on the cat. " * 9, encoding="utf-8")
    (folder / "greek.txt").write_text("the cat. Ὁμήρου Ἰλιάς", encoding="utf-8")
    (folder / "cp1251.txt").write_bytes("Мама мыла раму. ".encode("cp1251") * 50)
    (folder / "empty.txt").touch()
    (folder / "mark.txt").write_bytes(b"\xef\xbb\xbf")
    for task, item in ITEMS.items():
        line = json.dumps(item) + "\n"
        (folder / f"{task}.jsonl").write_text(line * 3, encoding="utf-8")
    (folder / "broken.jsonl").write_text('{"text": "the cat"}\n{"text": "the', encoding="utf-8")
    data = ["--data.path", "verse.txt", "--data.tokenizer"]
    assert main.main(["train", *data, "char", "--out", "char", *SMALL]) == 0
    assert (
        main.main(["train", *data, "bpe", "--data.vocab-size", "270", "--out", "bpe", *SMALL]) == 0
    )
    assert main.main(["train", "--data.stories", "100", "--out", "world", *SMALL]) == 0
    shutil.copytree("char", "moved")
    config = (folder / "moved/config.json").read_text(encoding="utf-8")
    config = config.replace("verse.txt", "gone.txt")
    (folder / "moved/config.json").write_text(config, encoding="utf-8")
    shutil.copytree("char", "mixed")
    shutil.copy("bpe/tokenizer.json", "mixed/tokenizer.json")
    os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def inside(folder_of_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder_of_runs)
    return folder_of_runs


def result(run: str, name: str) -> dict:
    return json.loads(Path(run, "evaluation", f"{name}.json").read_text(encoding="utf-8"))


# A text -------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["char", "bpe", "world"])
def test_without_a_text_the_loss_equals_that_of_the_training_log(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["evaluate", run, "--device", "cpu"]) == 0
    logged = json.loads(Path(run, "metrics.jsonl").read_text().splitlines()[-1])
    figures = result(run, "validation-stride-16")["figures"]
    # the same windows; batches of other sizes, so sums in another order
    assert figures["loss"] == pytest.approx(logged["val_loss"], rel=1e-6)
    assert figures["bits_per_byte"] == pytest.approx(logged["val_bits_per_byte"], rel=1e-6)
    assert figures["floor"] == logged.get("floor_bits_per_byte")
    output = capsys.readouterr().out
    assert "the validation split of" in output
    assert ("above the floor" in output) == (run == "world")


def test_whole_files_are_scored_to_the_last_byte(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["evaluate", "bpe", "--data.path", "other.txt", "verse.txt"]) == 0
    figures = result("bpe", "other-and-1-more-stride-16")["figures"]
    tokenizer, model = Tokenizer.load("bpe"), GPT2Model.load("bpe")
    texts = [Path(name).read_text(encoding="utf-8") for name in ("other.txt", "verse.txt")]
    end = tokenizer.end_of_text
    stream = [end]
    for text in texts:
        stream += [*tokenizer.encode(text), end]
    assert figures["tokens"] == len(stream) - 1
    assert figures["bytes"] == sum(len(text.encode()) for text in texts)
    split = Split(np.array(stream, dtype=np.uint16), figures["bytes"])
    nats = sum(
        next_token_loss(model(x), y)[0].item() for x, y in evaluation_batches(split, 16, 8, end)
    )
    assert figures["nats"] == pytest.approx(nats, rel=1e-6)
    assert figures["bits_per_byte"] == pytest.approx(bits_per_byte(nats, figures["bytes"]))
    assert figures["perplexity"] == pytest.approx(math.exp(nats / figures["tokens"]))
    assert "perplexity" in capsys.readouterr().out


def test_each_stride_has_its_own_windows_and_its_own_result_file() -> None:
    for stride in ("16", "8", "1"):
        assert main.main(["evaluate", "char", "--data.path", "other.txt", "--stride", stride]) == 0
    results = [result("char", f"other-stride-{stride}") for stride in (16, 8, 1)]
    windows = [one["figures"]["windows"] for one in results]
    assert windows == [14, 27, 202]  # of 217 targets: 16 first, then 16, 8 or 1 at a time
    assert len({one["figures"]["tokens"] for one in results}) == 1
    assert [one["measure"]["stride"] for one in results] == [16, 8, 1]


def test_the_result_file_has_everything_needed_to_repeat_the_measurement() -> None:
    flags = ["--data.path", "other.txt", "--stride", "8", "--batch-size", "3", "--device", "cpu"]
    assert main.main(["evaluate", "char", *flags]) == 0
    content = result("char", "other-stride-8")
    assert content["command"] == "python main.py evaluate char " + " ".join(flags)
    origin, measure = content["origin"], content["measure"]
    for file, key in (("model.safetensors", "weights"), ("tokenizer.json", "tokenizer")):
        expected = hashlib.sha256(Path("char", file).read_bytes()).hexdigest()
        assert origin[f"{key}_sha256"] == expected
    text = Path("other.txt").read_bytes()
    assert measure["sha256"] == hashlib.sha256(b"\0" + text).hexdigest()
    assert (measure["what"], measure["paths"]) == ("text", ["other.txt"])
    assert (origin["batch_size"], origin["precision"]) == (3, "fp32")
    assert origin["device"].startswith("cpu") and origin["torch"] and origin["date"]
    assert origin["context_length"] == 16 and origin["parameters"] > 0
    again = content["figures"]
    assert main.main(content["command"].split()[2:]) == 0
    assert result("char", "other-stride-8")["figures"] == again


def test_a_built_in_world_has_an_entropy_floor_below_the_measured_bits() -> None:
    assert main.main(["evaluate", "bpe", "--data.path", "tiny-world-ru"]) == 0
    content = result("bpe", "validation-of-tiny-world-ru-stride-16")
    assert 0 < content["figures"]["floor"] < content["figures"]["bits_per_byte"]
    assert content["measure"]["paths"] == ["tiny-world-ru"]


def test_the_loss_in_bf16_differs_from_fp32_by_less_than_one_percent() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        flags = ["--data.path", "other.txt", "--precision", precision, "--device", "cpu"]
        assert main.main(["evaluate", "char", *flags]) == 0
        losses.append(result("char", "other-stride-16")["figures"]["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)  # bf16 keeps 8 bits


# Several runs -------------------------------------------------------------------------------


def test_runs_are_compared_in_one_table_and_one_picture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["evaluate", "--compare", "char", "bpe"]) == 0
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in table] == ["run", "char", "bpe"]
    figures = [result(run, "validation-stride-16")["figures"] for run in ("char", "bpe")]
    for line, of_run in zip(table[1:], figures, strict=True):
        assert line.split()[-1] == f"{of_run['bits_per_byte']:.4f}"
        assert f"{of_run['bytes'] / of_run['tokens']:.2f}" in line.split()
    picture = Path("char/evaluation/validation-stride-16.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert figures[0]["bytes"] == figures[1]["bytes"]


@pytest.mark.parametrize("task", ITEMS)
def test_a_task_is_scored_compared_and_written_item_by_item(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--task", task, f"{task}.jsonl", "--limit", "2", "--compare", "bpe"]
    assert main.main(["evaluate", "char", *flags]) == 0
    output = capsys.readouterr().out
    assert "2 items of" in output and "picture" in output
    for run in ("char", "bpe"):
        content = result(run, task)
        assert content["figures"]["items"] == 2 and content["measure"]["limit"] == 2
        expected = hashlib.sha256(Path(f"{task}.jsonl").read_bytes()).hexdigest()
        assert content["measure"]["sha256"] == expected
        lines = Path(run, "evaluation", f"{task}.items.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["line"] for row in rows] == [1, 2]
        figure = "acc" if task == "lambada" else "acc_norm"
        assert sum(row["right"] for row in rows) / 2 == content["figures"][figure]
        assert len(rows[0]["log_probabilities"]) == len(rows[0]["greedy"]) > 0


def test_figures_have_four_decimals_and_counts_none() -> None:
    assert [format_figure(x) for x in (None, 5, 12345, 0.25, 1234.5)] == [
        "-",
        "5",
        "12,345",
        "0.2500",
        "1,234",
    ]


# Wrong input --------------------------------------------------------------------------------

WRONG = {
    "no run": ("evaluate", "evaluate needs a run directory; name one, such as runs/tiny"),
    "no run directory": ("evaluate no", "does not exist; name a run directory, such as runs/tiny"),
    "a missing file": ("evaluate char --data.path no.txt", "no.txt does not exist"),
    "an empty file": ("evaluate char --data.path empty.txt", "empty.txt is empty; give it some"),
    "a mark alone": ("evaluate char --data.path mark.txt", "is empty but for its byte order mark"),
    "no file": ("evaluate char --data.path", "--data.path is followed by nothing"),
    "a task without a name": ("evaluate char --task", "--task is followed by nothing"),
    "another alphabet": (
        "evaluate char --data.path greek.txt",
        "'Ὁ' (U+1F49) at position 9 of the held-out text",
    ),
    "no UTF-8": ("evaluate bpe --data.path cp1251.txt", "cp1251.txt is not UTF-8 text"),
    "a text that is gone": ("evaluate moved", "moved learned from gone.txt, which is not here"),
    "a mixed run": ("evaluate mixed", "tokens in its tokenizer and"),
    "stride 0": ("evaluate char --stride 0", "--stride 0 must be 1 or more"),
    "a stride too far": (
        "evaluate char --stride 17",
        "--stride 17 would leave out tokens: the context of char is 16; try 8",
    ),
    "a stride that is no number": ("evaluate char --stride half", "--stride"),
    "no batch": ("evaluate char --batch-size 0", "--batch-size 0 must be 1 or more"),
    "twice the same": ("evaluate char --compare char", "char is named twice"),
    "two texts": (
        "evaluate char --compare world",
        "--compare needs one text and the runs learned from several; add --data.path",
    ),
    "a device that is not here": ("evaluate char --device mps", "--device mps is not present here"),
    "an unknown task": ("evaluate char --task winograd a.jsonl", "--task winograd is unknown"),
    "a missing file of items": (
        "evaluate char --task lambada no.jsonl", "no.jsonl does not exist; name the task's JSONL",
    ),
    "a broken line": ("evaluate char --task lambada broken.jsonl", "broken.jsonl, line 2: Invalid"),
    "the run behind the file": (
        "evaluate --compare bpe --task lambada lambada.jsonl char",
        "names 2 files; name one, and RUN before it",
    ),
    "another task's items": (
        "evaluate char --task hellaswag lambada.jsonl", "line 1: activity_label: Field required",
    ),
    "a text and a task": (
        "evaluate char --task lambada lambada.jsonl --data.path other.txt",
        "--data.path is for a text and --task brings its own",
    ),
    "a stride and a task": (
        "evaluate char --task lambada lambada.jsonl --stride 4",
        "--stride is for a text and --task brings its own",
    ),
    "a task and the harness": (
        "evaluate char --task lambada lambada.jsonl --harness hellaswag",
        "--task and --harness exclude each other",
    ),
    "a limit of a text": ("evaluate char --limit 5", "--limit 5 is for --task and --harness"),
    "no items": ("evaluate char --task lambada lambada.jsonl --limit 0", "--limit 0 must be 1 or"),
    "a folder without tasks": (
        "evaluate char --harness-path char", "--harness-path char is for --harness",
    ),
    "several for the harness": (
        "evaluate char --compare bpe --harness hellaswag",
        "--harness and --compare exclude each other",
    ),
    "an unknown flag": ("evaluate char --strides 4", "perhaps you meant --stride"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_input_ends_with_one_sentence_and_status_2(
    line: str, words: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(inside)
    assert main.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error
    assert error.count("\n") == 1 and "Traceback" not in error
    assert contents(inside) == before


def test_without_the_harness_the_error_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evaluation.measure_harness.PACKAGE", "no_such_package")
    assert main.main(["evaluate", "char", "--harness", "hellaswag"]) == 2
    assert 'pip install -e ".[eval]"' in capsys.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Names --------------------------------------------------------------------------------------


def test_texts_of_the_same_name_have_a_file_each(inside: Path) -> None:
    names = []
    for folder, word in (("p", "cat"), ("q", "mat")):
        (inside / folder).mkdir()
        (inside / folder / "t.txt").write_text(f"the {word} sat. " * 9)
    for folder in ("p", "q", "p", "q"):
        assert main.main(["evaluate", "char", "--data.path", f"{folder}/t.txt"]) == 0
        names.append(sorted(path.name for path in Path("char/evaluation").glob("t-*")))
    assert names[0] == ["t-stride-16.json"]
    assert names[1] == names[2] == names[3] and len(names[3]) == 2
    paths = [
        json.loads(Path("char/evaluation", n).read_text())["measure"]["paths"] for n in names[3]
    ]
    assert sorted(paths) == [["p/t.txt"], ["q/t.txt"]]


def test_a_limited_task_does_not_replace_the_whole_one(inside: Path) -> None:
    shutil.copytree("char", "limited")
    shutil.rmtree("limited/evaluation", ignore_errors=True)
    for limit in ([], ["--limit", "1"], [], ["--limit", "1"]):
        line = ["evaluate", "limited", "--task", "lambada", "lambada.jsonl", *limit]
        assert main.main(line) == 0
    found = sorted(Path("limited/evaluation").glob("lambada*.json"))
    limits = [json.loads(file.read_text())["measure"]["limit"] for file in found]
    assert sorted(limits, key=str) == [1, None]
    assert len(list(Path("limited/evaluation").glob("lambada*.items.jsonl"))) == 2


@pytest.mark.parametrize("stem", ["x" * 250, "я" * 120, "a\tb", "a:b"])
def test_a_text_of_any_name_gets_a_result_file(inside: Path, stem: str) -> None:
    Path(stem + ".txt").write_text("the cat sat. " * 9)
    before = set(Path("char/evaluation").glob("*"))
    assert main.main(["evaluate", "char", "--data.path", stem + ".txt"]) == 0
    [file] = set(Path("char/evaluation").glob("*")) - before
    assert file.name.isprintable() and ":" not in file.name
    Path(stem + ".txt").unlink()
    file.unlink()
