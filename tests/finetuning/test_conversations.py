import json
from pathlib import Path

import pytest

from data.text_files import find_files
from finetuning.chat_format import Dialogue, Message
from finetuning.conversations import (
    MAX_VALIDATION,
    read_conversations,
    read_questions,
    split,
)
from finetuning.row_formats import FORMATS, Pair, RowFormat
from finetuning.rows import rows_of

SHARED = Path(__file__).parents[3] / "shared" / "dialogues"
ASKED, ANSWERED = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
HUMAN, GPT = {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}
USER, ASSISTANT = Message("user", "a"), Message("assistant", "b")
READ = Message("assistant", "b", is_learned=False)
SYSTEM = Message("system", "s")
PREFERENCE = {"chosen": "b", "rejected": "c"}
PAIR = Pair((USER,), ASSISTANT, Message("assistant", "c"))
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "value": " "}]


def write(file: Path, rows: list[object]) -> Path:
    text = json.dumps(rows) if file.suffix == ".json" else "\n".join(map(json.dumps, rows))
    file.write_text(text, encoding="utf-8")
    return file


def dialogue(*texts: str) -> Dialogue:
    roles = ("user", "assistant") * len(texts)
    return tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))


@pytest.mark.parametrize(
    "row, expected",
    [
        ({"messages": [ASKED, ANSWERED]}, (USER, ASSISTANT)),
        ({"messages": [{"role": "system", "content": "s"}, ASKED, ANSWERED]},
         (SYSTEM, USER, ASSISTANT)),
        ({"system": " s ", "messages": [ASKED, ANSWERED]}, (SYSTEM, USER, ASSISTANT)),
        ({"messages": [{"role": "user", "content": PARTS}, ANSWERED]}, (USER, ASSISTANT)),
        ({"messages": [ASKED, ANSWERED | {"weight": 0}, ASKED, ANSWERED | {"weight": 1}]},
         (USER, READ, USER, ASSISTANT)),
        ({"messages": [ASKED | {"loss_weight": 0.0}, ANSWERED | {"loss_weight": 1.0}]},
         (USER, ASSISTANT)),
        ({"messages": [HUMAN, ANSWERED]}, (USER, ASSISTANT)),
        ({"conversations": [HUMAN, GPT, HUMAN, GPT]}, (USER, ASSISTANT) * 2),
        ({"conversations": [ASKED, ANSWERED], "system": ""}, (USER, ASSISTANT)),
        ({"instruction": "a", "input": "", "output": "b"}, (USER, ASSISTANT)),
        ({"instruction": "", "input": "a", "output": "b", "system": None}, (USER, ASSISTANT)),
        ({"instruction": " a", "input": "c ", "output": "b"}, dialogue("a\n\nc", "b")),
        ({"instruction": "a", "output": "b", "history": [["a", "b"]], "system": "s"},
         (SYSTEM, USER, ASSISTANT, USER, ASSISTANT)),
        ({"prompt": "a", "completion": " b"}, (USER, ASSISTANT)),
        ({"prompt": [ASKED, ANSWERED, ASKED], "completion": [ANSWERED]},
         (USER, READ, USER, ASSISTANT)),
        ({"prompt": "a"} | PREFERENCE, PAIR),
        ({"prompt": [ASKED, ANSWERED, ASKED], "chosen": [ANSWERED], "rejected": "c"},
         Pair((USER, READ, USER), ASSISTANT, PAIR.rejected)),
        ({"prompt": "a", "chosen": [ASKED, ANSWERED], "rejected": [ASKED, GPT | {"value": "c"}]},
         PAIR),
        ({"instruction": "a", "input": "", "output": ""} | PREFERENCE, PAIR),
        ({"messages": [ASKED]} | PREFERENCE, PAIR),
        ({"conversations": [HUMAN], "chosen": GPT, "rejected": GPT | {"value": "c"}}, PAIR),
        ({"chosen": [ASKED, ANSWERED], "rejected": [ASKED, ANSWERED | {"content": "c"}]}, PAIR),
        ({"prompt": "a", "answer": "b"}, (USER, ASSISTANT)),
        ({"prompt": "a", "answers": ["b", "c"], "kind": "k"}, (USER, ASSISTANT)),
        ({"question": "a", "answer": "b", "steps": []}, (USER, ASSISTANT)),
    ],
)  # fmt: skip
def test_each_format_is_told_by_its_keys(tmp_path: Path, row: object, expected: object) -> None:
    for name in ("rows.json", "rows.jsonl"):
        read = read_conversations([str(write(tmp_path / name, [row]))])
        assert [*read.dialogues, *read.pairs] == [expected]


@pytest.mark.parametrize("row_format", FORMATS, ids=lambda row_format: row_format.name)
def test_the_example_of_each_format_is_of_that_format(
    tmp_path: Path, row_format: RowFormat
) -> None:
    file = tmp_path / "example.jsonl"
    before, mark, after = row_format.example.rpartition('"..."')
    example = f'{before}"another"{after}' if mark else after  # no two answers are the same
    if row_format.name == "T, Q and A":
        file, example = tmp_path / "example.txt", example.replace(", ", "\n")
    file.write_text(example)
    assert next(iter(read_conversations([str(file)]).rows.formats)) == row_format.name


def test_several_files_folders_and_globs_are_read_with_notes(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "a.json", [{"instruction": "a", "output": "b", "id": 1}] * 3)
    write(tmp_path / "folder" / "b.ndjson", [{"messages": [ASKED | {"name": "x"}, ANSWERED]}])
    (tmp_path / "folder" / "notes.csv").write_text("a,b")
    write(tmp_path / "c.jsonl", [{"prompt": "a", "completion": "c"}])
    read = read_conversations([str(tmp_path / "folder"), str(tmp_path / "*.jsonl")])
    assert len(read.dialogues) == 5 and read.n_duplicates == 3
    assert read.notes == [
        "3 rows of Alpaca, 1 row of OpenAI messages, 1 row of prompt and completion, 3 of them "
        "the same as one before",
        "fields that are not read: id, name",
        "left out: 1 *.csv; a folder stands for its *.json, *.jsonl, *.ndjson files",
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    lines = "\r\n\r\n".join([json.dumps({"prompt": "Где?", "completion": "Там."})] * 2)
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode() + b"\r\n")
    (tmp_path / "a.json").write_bytes(
        b"\xef\xbb\xbf \n" + json.dumps([{"question": '["}', "answer": "\\"}]).encode()
    )
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf\r\nT: a\r\nT: b\r\nQ : c\r\nA: d\r\n\r\n")
    paths = [str(tmp_path / f"a.{suffix}") for suffix in ("jsonl", "json", "txt")]
    expected = [dialogue("Где?", "Там.")] * 2 + [dialogue('["}', "\\"), dialogue("a\nb\nc", "d")]
    assert read_conversations(paths).dialogues == expected


def test_questions_are_read_with_all_answers_and_a_kind(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answers": ["b", "c"]}, {"prompt": "a", "answer": "b", "kind": "k"}]
    first, second = read_questions([str(write(tmp_path / "easy.jsonl", rows))])
    assert (first.prompt, first.answers, first.kind) == ((USER,), ("b", "c"), "easy")
    assert (second.answers, second.kind) == (("b",), "k")
    with pytest.raises(ValueError, match=r"only 0 are questions"):
        read_questions([str(write(tmp_path / "b.jsonl", [{"prompt": "a", "completion": "b"}]))])


def test_dialogues_and_pairs_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b"}])
    write(tmp_path / "b.jsonl", [{"prompt": "a"} | PREFERENCE])
    with pytest.raises(ValueError, match="1 dialogues and 1 preference pairs"):
        read_conversations([str(tmp_path)])


def test_equal_prompts_stand_on_one_side_of_the_split() -> None:
    items = [dialogue(f"question {n % 40}", f"answer {n}") for n in range(200)]
    train, validation = split(items)
    assert sorted(train + validation, key=items.index) == items
    assert 0 < len(validation) <= 20
    assert {item[0] for item in train}.isdisjoint({item[0] for item in validation})
    assert train == sorted(train, key=items.index)
    assert validation == split(items)[1]


@pytest.mark.parametrize("n, expected", [(2, 1), (19, 1), (100, 10), (20_000, MAX_VALIDATION)])
def test_validation_is_a_tenth_between_one_and_a_thousand(n: int, expected: int) -> None:
    pairs = [Pair(dialogue(f"question {k}"), ASSISTANT, PAIR.rejected) for k in range(n)]
    assert len(split(pairs)[1]) == expected


def test_a_few_large_groups_give_the_smallest_for_validation() -> None:
    items = [dialogue("a", str(n)) for n in range(60)] + [dialogue("b", str(n)) for n in range(50)]
    assert {item[0].content for item in split(items)[1]} == {"b"}
    with pytest.raises(ValueError, match="begin with the same message"):
        split(items[:60])


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared files are not here")
def test_the_shared_files_are_read_each_in_its_format() -> None:
    counts: dict[str, dict[str, int]] = {}
    for file in find_files([str(SHARED / "*.json*"), str(SHARED / "*.txt")]).sizes:
        read = read_conversations([str(file)])
        counts[file.name] = dict(read.rows.formats)
        items = read.dialogues or read.pairs
        train, validation = split(items)
        assert len(train) + len(validation) == len(items) == len(list(rows_of(file)))
    assert counts == {
        "alpaca_en_demo.json": {"Alpaca": 999},
        "dpo_en_demo.json": {"ShareGPT preference pairs": 300},
        "prosqa_valid.json": {"question and answer": 300},
        "v1_sft_demo.jsonl": {"OpenAI messages": 500},
        "premise_question_answer_neg_ru.txt": {"T, Q and A": 14_526},
        "premise_question_answer_ru.txt": {"T, Q and A": 33_606},
    }
