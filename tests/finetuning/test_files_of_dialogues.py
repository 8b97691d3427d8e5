"""Generated files: what is learned of them is what the assistant says; broken ones are refused."""

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.fuzzing import files_like

from finetuning.chat_format import encode_dialogue
from finetuning.conversations import read_conversations
from finetuning.row_formats import require_learnable
from tokenizer import END_OF_TEXT, Tokenizer

Turns = list[tuple[str, str]]  # what the user says, what the assistant says
PIECES = [
    "Where is Max", "Где корзинка", "?", "...", " ", "\n", "\r\n", "\t", "\u00a0", "\u2028", "🦙",
    "👩‍👩‍👧", "日本", "\x00", '"', "\\", "{", "]", ",", "T: ", "<|user|>",
    "<|assistant|>\n", END_OF_TEXT,
]  # fmt: skip


def openai(turns: Turns) -> object:
    messages = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return {"messages": messages}


def sharegpt(turns: Turns) -> object:
    messages = [
        {"from": role, "value": text}
        for turn in turns
        for role, text in zip(("human", "gpt"), turn, strict=True)
    ]
    return {"conversations": messages}


def alpaca(turns: Turns) -> object:
    *history, (question, answer) = turns
    return {"instruction": question, "input": "", "output": answer, "history": history}


FORMS: dict[str, Callable[[Turns], object]] = {
    "OpenAI messages": openai,
    "ShareGPT": sharegpt,
    "Alpaca": alpaca,
    "prompt and completion": lambda turns: {"prompt": turns[-1][0], "completion": turns[-1][1]},
    "questions": lambda turns: {"prompt": turns[-1][0], "answers": list(turns[-1][1:])},
}
ONE_TURN = ("prompt and completion", "questions")


def drawn_turns(draw: random.Random) -> Turns:
    def text() -> str:
        while not (drawn := "".join(draw.choices(PIECES, k=draw.randint(1, 6)))).strip():
            pass
        return drawn

    return [(text(), text()) for _ in range(draw.randint(1, 3))]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["Where is Max? Где корзинка? <|user|>\n <|assistant|>\n"] * 9, 320)


@pytest.mark.parametrize(
    "n", [100, pytest.param(10_000, marks=pytest.mark.slow)], ids=["fast", "slow"]
)
@pytest.mark.parametrize("name", FORMS)
def test_the_learned_tokens_are_the_answers_and_their_ends(
    name: str, n: int, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    draw = random.Random(n)
    drawn = [drawn_turns(draw) for _ in range(n)]
    file = tmp_path / "rows.json"
    rows = [FORMS[name](turns) for turns in drawn]
    file.write_text(json.dumps(rows, indent=1, ensure_ascii=n % 200 == 0), encoding="utf-8")
    read = read_conversations([str(file)])
    assert read.rows.formats == {name: n}
    for turns, dialogue in zip(drawn, read.dialogues, strict=True):
        tokens, is_learned = encode_dialogue(dialogue, tokenizer)
        learned = [id for id, scored in zip(tokens, is_learned, strict=True) if scored]
        answers = [answer for _, answer in (turns[-1:] if name in ONE_TURN else turns)]
        assert tokenizer.decode(learned) == "".join(a.strip() + END_OF_TEXT for a in answers)
        assert tokens[-1] == tokenizer.end_of_text and is_learned[-1]


# Broken files ---------------------------------------------------------------------------------

VALID = [FORMS[name]([("Where?", "Там."), ("a", "b")]) for name in FORMS]
VALID += [
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
                  {"role": "assistant", "content": "b", "weight": 1}]},
]  # fmt: skip
BLOCKS = "T: a\nQ: b?\nA: c\n\nT: a\nT: d\nQ: b?\nA: c\n"
FILES = {
    "rows.json": st.sampled_from(VALID).flatmap(
        lambda row: files_like(json.dumps([row, row], indent=1).encode(), "json")
    ),
    "rows.jsonl": st.sampled_from(VALID).flatmap(
        lambda row: files_like(f"{json.dumps(row)}\n{json.dumps(row)}\n".encode(), "lines")
    ),
    "blocks.txt": files_like(BLOCKS.encode(), "bytes"),
}


def read_or_refuse(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        try:
            read = read_conversations([str(file)])
        except ValueError as error:
            sentence = str(error).replace(str(file), "FILE")
            assert "FILE" in sentence and len(sentence) < 3_000
            return
        assert read.dialogues or read.pairs
        for dialogue in read.dialogues:
            require_learnable(dialogue)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_changed_file_is_read_or_refused(name: str, data: st.DataObject) -> None:
    read_or_refuse(name, data.draw(FILES[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_changed_files_are_read_or_refused(name: str, data: st.DataObject) -> None:
    read_or_refuse(name, data.draw(FILES[name]))
