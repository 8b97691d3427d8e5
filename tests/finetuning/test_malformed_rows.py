"""A bad row is refused in one sentence with the file, the line and an example."""

import json
import re
from pathlib import Path

import pytest

from finetuning.conversations import read_conversations

U, A = '{"role": "user", "content": "a"}', '{"role": "assistant", "content": "b"}'
GOOD = f'{{"messages": [{U}, {A}]}}'
HUMAN, GPT = '{"from": "human", "value": "a"}', '{"from": "gpt", "value": "b"}'


def messages(*parts: str, more: str = "") -> str:
    return f'{{"messages": [{", ".join(parts)}]{more}}}'


def assistant(more: str) -> str:
    return messages(U, f'{{"role": "assistant", {more}}}')


def pair(chosen: str, rejected: str, prompt: str = '"a"') -> str:
    return f'{{"prompt": {prompt}, "chosen": {chosen}, "rejected": {rejected}}}'


BAD_ROWS = {  # a line after a good one of its own kind -> what the sentence says
    # no row of JSON
    '{"messages": [': "is not JSON: EOF while parsing a list at column 14",
    GOOD + ",": "is not JSON: trailing characters",
    "{'messages': []}": "is not JSON: key must be a string at column 2",
    "# a comment": "is not JSON: expected value",
    '"a text"': "is a text where an object is needed",
    "[" + GOOD + "]": "is a list where an object is needed",
    "null": "is null where an object is needed",
    GOOD[:-1] + ', "score": NaN}': "is not JSON: expected value",
    GOOD[:-1] + ', "score": -Infinity}': "is not JSON: invalid number",
    GOOD[:-1] + ', "a": ' + "[" * 300 + "]" * 300 + "}": "nested more than 200 deep",
    GOOD.replace('"a"', '"\\ud83d"'): "it is a surrogate",
    GOOD.replace('"a"', '"a", "content": "c"'): "has 'content' twice in one object",
    GOOD.replace('"a"', '"tab\there"'): "control character",
    # the fields
    "{}": "there is no 'messages' but no fields",
    '{"text": "a"}': "there is no 'messages' but text; the file's first row is OpenAI messages",
    f'{{"Messages": [{U}, {A}]}}': "there is no 'messages' but Messages",
    '{"messages": "a"}': "'messages' is a text where a list of messages is needed",
    '{"messages": null}': "'messages' is null where",
    '{"messages": []}': "'messages' is an empty list",
    # tools, images and verdicts
    messages(U, A, more=', "tools": [{"name": "f"}]'): "'tools' holds tools, which are not",
    messages(U, A, more=', "functions": [{"name": "f"}]'): "'functions' holds functions",
    messages(U, A, more=', "images": ["cat.png"]'): "'images' holds images",
    messages(U, A, more=', "label": true'): "'label' is a verdict on a single answer",
    assistant('"content": null, "tool_calls": [{"id": 1}]'): "message 2 of 'messages': 'tool_calls'"
    " holds calls of tools",
    assistant('"content": "a", "function_call": {"name": "f"}'): "calls of functions",
    assistant('"content": [{"type": "image_url", "image_url": "cat.png"}]'): "is 'image_url' and",
    assistant('"content": [{"type": "text"}]'): "a part of its content is 'text' and no text",
    messages(U, A, U, '{"role": "tool", "content": "22"}'): "message 4 of 'messages': the role "
    "'tool' is not supported",
    # messages
    messages(U, '"b"'): "message 2 of 'messages': it is a text where an object is needed",
    messages(U, '{"content": "b"}'): "message 2 of 'messages': it has no 'role'; choose one of",
    messages(U, '{"role": 3, "content": "b"}'): "the role a number is not supported",
    messages(U, '{"role": "robot", "content": "b"}'): "the role 'robot' is not supported",
    assistant('"content": ""'): "message 2 of 'messages': the assistant's message is empty",
    assistant('"content": " \\n\\u00a0"'): "the assistant's message is empty",
    assistant('"text": "b"'): "its content is no text",
    assistant('"content": 3'): "its content is a number where a text is needed",
    assistant('"content": "b", "weight": 0.5'): "'weight' is 0.5; only 0 and 1 are supported",
    assistant('"content": "b", "weight": "1"'): "'weight' is a text; only 0 and 1",
    assistant('"content": "b", "weight": 0'): "all of the assistant's messages have the weight 0",
    messages(U[:-1] + ', "weight": 1}', A): "'weight' is 1 in the user's message",
    # turns
    messages(U): "there is no assistant's message; nothing would be learned",
    messages(A): "message 1 is the assistant's, where the user's belongs",
    messages(U, U, A): "message 2 is the user's, where the assistant's belongs",
    messages(U, A, A): "message 3 is the assistant's, where the user's belongs",
    messages(U, A, U): "message 3, the last, is the user's",
    messages(U, A, '{"role": "system", "content": "s"}'): "message 3 is the system's",
    messages('{"role": "system", "content": "s"}', U, A, more=', "system": "t"'): "there is a "
    "system message beside 'system'",
    # other formats: {first good row} then the bad one
    '{"conversations": [' + HUMAN + ', {"from": "observation", "value": "b"}]}': "the role "
    "'observation' is not supported",
    '{"conversations": [' + GPT + ", " + HUMAN + "]}": "message 1 is the assistant's",
    '{"conversations": [' + HUMAN + ', {"from": "gpt"}]}': "its content is no text",
    '{"instruction": "a", "input": "", "output": ""}': "'output' is empty",
    '{"instruction": "a", "input": ["x"], "output": "b"}': "'input' is a list where a text is",
    '{"instruction": "", "input": null, "output": "b"}': "'instruction' and 'input' are empty",
    '{"instruction": "a", "output": "b", "history": [["x"]]}': "turn 1 of 'history' is not a list",
    '{"instruction": "a", "output": "b", "history": "x"}': "'history' is a text where a list",
    '{"prompt": "a", "completion": {"b": 1}}': "'completion' is an object where a text is needed",
    '{"prompt": " ", "completion": "b"}': "'prompt' is empty",
    '{"prompt": [' + U + ", " + A + '], "completion": "b"}': "the prompt does not end with",
    pair('"b"', '"b "'): "'chosen' and 'rejected' are the same text",
    pair('"b"', '""'): "'rejected' is empty",
    pair('"b"', "null"): "'rejected' is empty",
    pair(U, A): "'chosen' ends with the user's message",
    pair(f"[{U}, {A}, {U}, {A}]", '"c"'): "before its last are not the prompt",
    pair('"b"', '"c"', prompt=f"[{U}, {A}]"): "the prompt does not end with the user's message",
    '{"prompt": "a", "answers": []}': "'answers' is an empty list where a list of texts",
    '{"prompt": "a", "answers": "b"}': "'answers' is a text where a list of texts",
    '{"prompt": "a", "answers": ["b", 3]}': "'answer 2' is a number where a text is needed",
    '{"prompt": "a", "answer": "b", "answers": ["b"]}': "there are both 'answer' and 'answers'",
    '{"question": "a", "answer": 42}': "'answer' is a number where a text is needed",
}  # fmt: skip


def good_row_like(row: str) -> str:
    """Returns a good row whose format the row shares, as far as its first key tells."""
    rows = {
        '"conversations"': f'{{"conversations": [{HUMAN}, {GPT}]}}',
        '"instruction"': '{"instruction": "a", "output": "b"}',
        '"completion"': '{"prompt": "a", "completion": "b"}',
        '"chosen"': '{"prompt": "a", "chosen": "b", "rejected": "c"}',
        '"prompt"': '{"prompt": "a", "answer": "b"}',
        '"question"': '{"question": "a", "answer": "b"}',
    }
    return next((good for key, good in rows.items() if key in row), GOOD)


@pytest.mark.parametrize(("row", "said"), BAD_ROWS.items())
def test_a_bad_row_is_refused_by_file_and_line(tmp_path: Path, row: str, said: str) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(f"{good_row_like(row)}\n\n{row}\n{good_row_like(row)}\n", encoding="utf-8")
    message = refusal(file)
    assert message.startswith(f"line 3 of {file}")
    assert said in message


def as_item(row: str) -> bool:
    try:
        return isinstance(json.loads(row), dict) and "is not JSON" not in BAD_ROWS[row]
    except (ValueError, RecursionError):
        return False


@pytest.mark.parametrize("row", list(filter(as_item, BAD_ROWS)))
def test_a_bad_item_of_a_list_is_refused_by_its_number_and_line(tmp_path: Path, row: str) -> None:
    file = tmp_path / "chat.json"
    file.write_text(f"[\n{good_row_like(row)},\n\n  {row}\n]", encoding="utf-8")
    message = refusal(file)
    if "is not JSON" in message:
        assert " line 4 " in message
    else:
        assert message.startswith(f"item 2 (line 4) of {file}")
    assert BAD_ROWS[row] in message


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty.jsonl": (b"", "empty.jsonl is empty"),
    "blank.jsonl": (b" \n\n", "blank.jsonl has no rows"),
    "mark.json": (b"\xef\xbb\xbf", "mark.json has no rows"),
    "none.json": (b"[]", "none.json has no rows"),
    "open.json": (b"[\n" + GOOD.encode() + b",\n", "EOF while parsing a value at line 3"),
    "half.json": (b"[\n" + GOOD.encode()[:-9], "EOF while parsing a string at line 2"),
    "comma.json": (b"[" + GOOD.encode() + b",\n]", "trailing comma at line 2"),
    "commas.json": (b"[" + GOOD.encode() + b",\n,{}]", "expected value at line 2"),
    "missing.json": (b"[{}\n{}]", "expected `,` or `]` at line 2"),
    "after.json": (b"[" + GOOD.encode() + b"]\n[]", "trailing characters at line 2"),
    "crossed.json": (b"[\n{]}", "key must be a string at line 2"),
    "within.json": (
        b"[\n" + GOOD.encode() + b",\n{\n 'a': 1}]",
        "within.json is not JSON: key must be a string at line 4 column 2",
    ),
    "object.json": (b'{"data": [\n' + GOOD.encode() + b"]}", "one JSON object over many lines"),
    "split.jsonl": (b'{"prompt": "a",\n"completion": "b"}', "one JSON object over many lines"),
    "number.json": (b"42", "line 1 of {file} begins with '42' where JSON is expected"),
    "table.csv": (b"prompt,completion\na,b\n", "begins with 'prompt,completion' where JSON"),
    "web.json": (b"\n<!doctype html><p>Not found", "line 2 of {file} begins with '<!doctype html>"),
    "wide.jsonl": (GOOD.encode("utf-16"), "line 1 of {file} is not UTF-8 text: byte 0xff"),
    "wide2.json": (GOOD.encode("utf-16-le"), "it is UTF-16LE"),
    "latin.jsonl": (
        GOOD.encode() + b"\n" + GOOD.encode().replace(b'"a"', b'"caf\xe9"'),
        "line 2 of {file} is not UTF-8 text: byte 0xe9",
    ),
    "latin.json": (
        b"[" + GOOD.encode() + b"," + b" " * 4096 + b'\n{"a": "caf\xe9"}]',
        "item 2 (line 2) of {file} is not UTF-8 text: byte 0xe9",
    ),
    "packed.jsonl": (b"\x1f\x8b\x08\0", "is a gzip file and no plain text; unpack it with"),
    "rows.parquet": (b"PAR1\0\0", "is Parquet; write its rows as JSONL"),
    "pickled.json": (b"\x80\x04\x95\x10\0", "line 1 of {file} is not UTF-8 text"),
    "lfs.json": (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
    "unknown.jsonl": (b'{"text": "a"}', "the fields text make no known format: prompt + chosen"),
    "no_answer.txt": (b"T: a\nQ: b\n\nT: a\nQ: b\nA: c", "line 1 of {file} begins a block without"),
    "no_text.txt": (b"T: a\nQ: b\nA: c\n\nQ: b\nA: c", "line 5 of {file} begins a block without T"),
    "other.txt": (b"T: a\nQ: b\nA: c\n\nT: a\nB: b", "line 6 of {file} begins with 'B: b' where"),
    "joined.txt": (
        b"T: a\nQ: b\nA: c\nT: a\nQ: b\nA: c",
        "line 4 of {file} is T: after A: in the same block",
    ),
    "blank_answer.txt": (b"T: a\nQ: b\nA:\n", "line 1 of {file}: 'A' is empty"),
    "cp1251.txt": ("T: Я\nQ: где?".encode("cp1251"), "line 1 of {file} is not UTF-8 text"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content, said = BAD_FILES[name]
    file = tmp_path / name
    file.write_bytes(content)
    message = refusal(file)
    assert str(file) in message
    assert said.format(file=file) in message


@pytest.mark.parametrize("name", ["none.jsonl", "none*.json", "folder"])
def test_a_path_without_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv").write_text("a")
    with pytest.raises(FileNotFoundError, match=r"does not exist|has no \*\.json"):
        read_conversations([str(tmp_path / name)])


def test_a_long_line_is_refused_by_its_length(tmp_path: Path) -> None:
    file = tmp_path / "long.jsonl"
    file.write_bytes(
        GOOD.encode() + b"\n" + GOOD.encode().replace(b'"a"', b'"%s"' % (b"a" * 32_000_000))
    )
    assert re.match(f"line 2 of {file} is larger than 32 MB", refusal(file))


def refusal(file: Path) -> str:
    with pytest.raises(ValueError) as refused:
        read_conversations([str(file)])
    message = str(refused.value)
    assert "\n" not in message.replace(str(file), "")
    return message
