"""Encodings: the wrong byte is named, a guess is said as one, and the command works."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from oracles.corpora import PROSE, RUSSIAN, write

from cfg_gpt2 import DataConfig
from data import encodings
from data.text_files import CHUNK_BYTES, Span, read_span
from load_data import load_corpus

SettingsOf = Callable[..., DataConfig]

PLAIN = RUSSIAN.translate(str.maketrans("«»—", '""-'))
SENTENCES = {
    "CP1251": RUSSIAN,
    "KOI8-R": PLAIN,
    "CP866": PLAIN,
    "CP1252": "Le café était fermé depuis l’été dernier, où les élèves français déjeunaient.\n" * 9,
    "CP1250": "Příliš žluťoučký kůň úpěl ďábelské ódy, řekl šťastný pán z města Třebíče.\n" * 9,
    "CP1253": "Η αλεπού ρώτησε πού είναι το τύμπανο, και η κότα είπε: στον αχυρώνα.\n" * 9,
    "CP932": "狐は太鼓がどこにあるか尋ねました。「納屋にあります」と雌鶏は答えました。\n" * 9,
    "EUC-JP": "狐は太鼓がどこにあるか尋ねました。「納屋にあります」と雌鶏は答えました。\n" * 9,
    "GB18030": "狐狸问鼓在哪里。母鸡回答说，鼓在谷仓里，可是今天没有人去敲它。\n" * 9,
    "BIG5": "狐狸問鼓在哪裡。母雞回答說，鼓在穀倉裡，可是今天沒有人去敲它。\n" * 9,
    "CP949": "여우는 북이 어디 있는지 물었습니다. 암탉은 헛간에 있다고 대답했습니다.\n" * 9,
    "UTF-16": RUSSIAN,
    "UTF-16BE": RUSSIAN,
    "UTF-16LE": PROSE,
    "UTF-32": PROSE,
    "UTF-32BE": RUSSIAN,
}


def error_of(file: Path) -> str:
    """What reading the file says."""
    with pytest.raises(ValueError, match="is not UTF-8 text") as caught:
        list(read_span(Span(file, 0, file.stat().st_size)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(shutil.which("iconv") is None, reason="runs the printed command")
@pytest.mark.parametrize("encoding", SENTENCES)
def test_the_guess_is_right_and_its_command_gives_the_text_back(
    encoding: str, tmp_path: Path
) -> None:
    text = SENTENCES[encoding]
    folder = tmp_path / "it's a folder"
    file = write(folder / "my text.txt", text.encode(encoding))
    said = error_of(file)
    if len(encoding) > 6 or encoding.startswith(("CP", "KOI", "GB", "EUC", "BIG")):
        assert "a guess by which it reads" in said and text[:9] in said
    command = said.partition("convert it with ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    out = tmp_path / shlex.split(command)[-1]
    assert out.read_text(encoding="utf-8") == text
    assert file.read_bytes() == text.encode(encoding)


DAMAGED = [
    (RUSSIAN.encode() + b"\x92" + RUSSIAN.encode(), 0x92, "the rest is UTF-8, so correct this"),
    (PROSE.encode() + b"\xe9" + PROSE.encode(), 0xE9, "the rest is UTF-8, so correct this byte"),
    (PROSE.encode() + b"\0" + PROSE.encode(), 0, "the rest is UTF-8, so correct this byte"),
    (RUSSIAN.encode() + b"\0\0" + RUSSIAN.encode(), 0, "all but 2 bytes of the rest are UTF-8"),
    (RUSSIAN.encode() + b"\0" * 99, 0, "all bytes from there on are zero, as a copy leaves them"),
    (b"\0" * 5_000_000, 0, "all bytes from there on are zero, as a copy leaves them that was"),
    (RUSSIAN.encode() + b"\xff\x81 \x92" + RUSSIAN.encode(), 0xFF, "all but 3 bytes"),
    (RUSSIAN.encode() + "я".encode()[:1], 0xD1, "the rest is UTF-8, so correct this byte"),
    (PROSE.encode() + "🙂".encode()[:3], 0xF0, "all but 3 bytes of the rest are UTF-8"),
    (PROSE.encode() + b"\xed\xa0\xbd\xed\xb8\x80!" * 9, 0xED, "a surrogate, which CESU-8 has"),
    (RUSSIAN.encode() * 3 + "Лиса, лиса".encode("cp1251"), 0xCB, "all but 8 bytes of the rest"),
]


@pytest.mark.parametrize(("content", "byte", "sentence"), DAMAGED)
def test_a_text_that_is_utf8_but_for_a_few_bytes_is_offered_no_conversion(
    content: bytes, byte: int, sentence: str, tmp_path: Path
) -> None:
    said = error_of(write(tmp_path / "book.txt", content))
    assert re.search(f"byte 0x{byte:02x} at offset ([0-9]+); ", said)
    assert sentence in said and "iconv" not in said and "guess" not in said


@pytest.mark.parametrize("n_before", [0, 7, CHUNK_BYTES - 1, 990_000])
def test_a_cp1251_file_is_named_with_the_byte_and_the_way_out(
    n_before: int, settings_of: SettingsOf, tmp_path: Path
) -> None:
    content = (b"tree and \n" * 100_000)[:n_before] + RUSSIAN.encode("cp1251") + b" ok" * 100
    sentence = rf"book.txt is not UTF-8 text: byte 0xcb at offset {n_before};.*iconv -f CP1251 -t"
    with pytest.raises(ValueError, match=sentence):
        load_corpus(settings_of(write(tmp_path / "book.txt", content)))
    assert list((tmp_path / "cache").iterdir()) == []


def test_binary_data_is_called_that(tmp_path: Path) -> None:
    content = bytes(n * n * 7 % 251 for n in range(5000))
    assert "it is binary data and no text; leave it out" in error_of(
        write(tmp_path / "a.txt", content)
    )


def test_what_nobody_can_guess_gets_no_command(tmp_path: Path) -> None:
    content = bytes(0x80 + n * n % 127 for n in range(5000))
    said = error_of(write(tmp_path / "a.txt", content))
    assert "iconv" not in said


def test_of_a_large_file_only_a_part_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encodings, "WINDOW_BYTES", 1000)
    file = write(tmp_path / "a.txt", RUSSIAN.encode() * 5 + b"\xff" + RUSSIAN.encode() * 5)
    assert "the text around it is UTF-8, so correct this byte by hand" in error_of(file)
