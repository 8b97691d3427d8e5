"""JSON that others wrote: one sentence that names the file, whatever is in it."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from run_directory import json_file
from run_directory.json_file import (
    MAX_BYTES,
    is_file_name,
    parse_json,
    read_json,
    read_json_as,
    read_json_object,
)

BROKEN = {
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and whole": b"[" * 5_000 + b"]" * 5_000,
    "empty": b"",
    "blank": b" \n",
    "a mark alone": b"\xef\xbb\xbf",
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": -Infinity}',
    "half a surrogate pair": b'{"a": "\\ud800"}',
    "CP1251": '{"a": "мама"}'.encode("cp1251"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "cut": b'{"a": [1, 2',
    "two values": b"{} {}",
    "a number of 5,000 digits": b"1" * 5_000,
    "a control character": b'{"\x01": 1}',
    "zeros": b"\0" * 100,
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_json_ends_in_one_sentence_that_names_the_file(
    data: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "some.json"
    file.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_json(file)
    assert type(caught.value) is ValueError
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_byte_order_mark_is_accepted_and_the_last_of_two_equal_keys_counts() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1, "a": 2}', "text") == json.loads('{"a": 1, "a": 2}')


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-300, 5e-324, 2**53 + 1, -(2**70), -0.0, 1.0])
def test_numbers_come_back_exactly(value: float) -> None:
    again = parse_json(json.dumps(value).encode(), "text")
    assert (repr(again), type(again)) == (repr(value), type(value))


def test_a_larger_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "large.json"
    with file.open("wb") as sparse:
        sparse.truncate(MAX_BYTES * 1000)  # 32 GB, of which the disk holds nothing
    with pytest.raises(ValueError, match=r"large\.json is larger than 32 MB"):
        read_json(file)
    monkeypatch.setattr(json_file, "MAX_BYTES", 10)
    assert parse_json(b"1234567890", "text") == 1234567890
    with pytest.raises(ValueError, match="text is larger than"):
        parse_json(b"12345678901", "text")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"'])
def test_an_object_is_an_object(tmp_path: Path, text: str) -> None:
    file = tmp_path / "some.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"some\.json is not a JSON object"):
        read_json_object(file)


@dataclass(frozen=True)
class Box:
    sizes: tuple[int, ...]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"sizes": [1, "2"]}', "cannot be used: sizes.1: Input should be a valid integer"),
        ('{"sizes": [1, true]}', "cannot be used: sizes.1: Input should be a valid integer"),
        ("{}", "cannot be used: sizes: Field required"),
        ("[]", "cannot be used: Input should be an object"),
        ("[", "is not JSON: EOF"),
    ],
)
def test_a_wrong_value_is_named_by_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "box.json"
    file.write_text('{"sizes": [3, 4]}')
    assert read_json_as(Box, file) == Box((3, 4))
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        read_json_as(Box, file)
    assert f"{file} {sentence}" in str(caught.value)


def test_names_and_values_that_are_long_are_cut_in_messages(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"sizes": {"n" * 100_000: []}}))
    with pytest.raises(ValueError) as caught:
        read_json_as(dict[str, dict[str, int]], file)
    assert len(str(caught.value)) < 400 + len(str(file))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../a.bin",
        "a/b",
        "a/",
        "c:\\a",
        "..\\a",
        "c:a",
        "a\0b",
        "я" * 128,
    ],
)
def test_a_name_that_leads_out_of_the_folder_is_none(name: str) -> None:
    assert not is_file_name(name)


@pytest.mark.parametrize("name", ["a.bin", ".hidden", "model-00001-of-00002.safetensors", "ü 1"])
def test_a_plain_name_is_one(name: str) -> None:
    assert is_file_name(name)
