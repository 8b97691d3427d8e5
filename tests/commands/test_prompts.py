"""commands/prompts.py: prompts from files, pipes and the standard input."""

import io
import os
import sys
import threading
from pathlib import Path

import pytest

from commands import prompts
from commands.prompts import hint_about_escapes, read_prompts, utf8_text

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
BOM = b"\xef\xbb\xbf"


def give(monkeypatch: pytest.MonkeyPatch, data: bytes, encoding: str = "utf-8") -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding))


@pytest.mark.parametrize("data", [BOM + b"The\r\nking", b"The\nking", BOM + b"The\rking"])
def test_a_byte_order_mark_and_foreign_line_ends_are_no_part_of_a_prompt(
    data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_bytes(data)
    give(monkeypatch, data)
    assert read_prompts(("-",), (file,)) == ["The\nking", "The\nking"]


def test_a_mark_in_the_middle_stays(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_bytes(b"a" + BOM + b"b")
    assert read_prompts((), (tmp_path / "prompt.txt",)) == ["a\ufeffb"]


def test_the_standard_input_of_a_system_without_utf8_is_read_in_its_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give(monkeypatch, "Привет".encode("cp1251"), "cp1251")
    assert read_prompts(("-",), ()) == ["Привет"]
    give(monkeypatch, "Привет".encode(), "cp1251")  # as `type file |` and most editors give it
    assert read_prompts(("-",), ()) == ["Привет"]
    give(monkeypatch, "Привет".encode("cp1251"))
    with pytest.raises(ValueError, match=r"--prompt - is not UTF-8 text: \\xcf at position 0"):
        read_prompts(("-",), ())


def test_no_prompt_is_one_empty_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_prompts((), ()) == [""]
    give(monkeypatch, b"")
    assert read_prompts(("-",), ()) == [""]


@unix
def test_a_pipe_gives_its_text(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(BOM + b"hi",))
    writer.start()
    assert read_prompts((), (pipe,)) == ["hi"]
    writer.join()


@unix
def test_a_device_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "MAX_PROMPT_BYTES", 1000)
    with pytest.raises(ValueError, match="/dev/zero has more than 1,000 bytes"):
        read_prompts((), (Path("/dev/zero"),))
    assert read_prompts((), (Path("/dev/null"),)) == [""]


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        read_prompts((), (tmp_path,))
    with pytest.raises(FileNotFoundError, match="does not exist; name a text file"):
        read_prompts((), (tmp_path / "none",))
    (tmp_path / "utf16.txt").write_text("hi", encoding="utf-16")
    with pytest.raises(ValueError, match=r"utf16.txt is not UTF-8 text: .* at byte 0; save it as"):
        read_prompts((), (tmp_path / "utf16.txt",))


def test_an_escape_that_no_shell_reads_is_named_with_what_bash_takes() -> None:
    hint = hint_about_escapes("--stop", ("x", "\\n\\n"))
    assert hint and "two characters" in hint and hint.endswith("--stop $'\\n\\n'")
    assert "--ban $'it\\'s\\t'" in (hint_about_escapes("--ban", ("it's\\t",)) or "")
    assert hint_about_escapes("--stop", ("\n", "C:", "\\", "end")) is None


def test_a_text_typed_in_the_locale_c_is_read_as_utf8() -> None:
    typed = "Привет, ΑΒ".encode().decode("ascii", "surrogateescape")
    assert utf8_text(typed, "--prompt") == "Привет, ΑΒ"
    assert utf8_text("Привет", "--prompt") == "Привет"
    with pytest.raises(ValueError, match=r"--stop is not UTF-8 text: \\xff at position 2"):
        utf8_text("аб\udcff", "--stop")
