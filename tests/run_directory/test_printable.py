"""run_directory/printable.py: text of strangers on a terminal, and commands that can be pasted."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path, PureWindowsPath

import pytest

from run_directory.printable import (
    CMD_SPECIAL,
    UNSAFE,
    json_line,
    main_command,
    printable,
    quoted,
    quoted_for_cmd,
)

HOSTILE = [
    "\x1b]0;title\x07", "\x1b[2J\x1b[H", "\x1b]52;c;cHduZWQ=\x07", "\x9b31m", "\x90q\x9c", "a\rb",
    "a\x08\x08b", "\x00", "\x7f", "\x05\x0e", "\u202egnp.exe", "\u2066x\u2069", "caf\udce9",
    "\ud83d", "\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\", "\x85", "\u2028",
]  # fmt: skip
HARMLESS = [
    "",
    "two\nlines\tand a tab",
    "Привет",
    "日本語",
    "👩‍🚀",
    "می‌خواهم",
    "é\u0301",
    "\\x1b",
    "\xa0",
]


def test_control_sequences_become_visible_escapes() -> None:
    assert printable("\x1b]0;x\x07\x9b2J\r\u202e\x7f") == r"\x1b]0;x\x07\x9b2J\x0d\u202e\x7f"
    assert printable(os.fsdecode(b"\xca\xed")) == r"\xca\xed"
    assert printable("\ud83d") == r"\ud83d"
    for text in HOSTILE:
        assert not UNSAFE.search(printable(text))
        printable(text).encode("utf-8")


@pytest.mark.parametrize("text", HARMLESS)
def test_letters_of_every_script_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1251", "cp1252", None])
def test_a_line_of_json_gives_back_every_text_in_every_encoding(encoding: str | None) -> None:
    value = {"texts": [*HOSTILE, *HARMLESS], "n": 1.5}
    line = json_line(value, encoding)
    assert json.loads(line.encode(encoding or "utf-8").decode(encoding or "utf-8")) == value
    assert "\n" not in line and not UNSAFE.search(line)


def test_a_line_of_json_keeps_the_letters_that_its_encoding_has() -> None:
    assert json_line("Привет", "cp1251") == '"Привет"'
    assert json_line("Привет", "cp1252") == json.dumps("Привет")


WORDS = [
    "runs/tiny", "runs/a b", "my book's \"hf\" [1]", "$HOME", "`id`", "a;rm -rf b", "*", "!x", "",
    "back\\slash", "two\nlines", "tab\t", "книга", "\x1b[2J", os.fsdecode(b"\xca\xed.txt"), "-x",
    "~", "#", "a&b|c", "'", "\\'", "\u202e", "(x)", "é", "=x", "{a,b}", os.fsdecode(b"it's \xff\\"),
]  # fmt: skip


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_reads_a_quoted_word_as_it_was() -> None:
    line = " ".join(quoted(word, windows=False) for word in WORDS)
    assert not UNSAFE.search(line) and "\n" not in line
    read = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert read.stdout.split(b"\0")[:-1] == [os.fsencode(word) for word in WORDS]


def test_a_path_that_looks_like_a_flag_or_a_home_directory_stays_a_path() -> None:
    assert quoted(Path("-notes.txt"), windows=False) == "./-notes.txt"
    assert quoted(Path("~x"), windows=False) == "'./~x'"
    assert quoted("-x", windows=False) == "-x"


def as_windows_reads(line: str) -> list[str]:
    """Returns the words that CommandLineToArgvW makes of a line, by its documented rules."""
    words, word, is_quoted, has_word, i = list[str](), "", False, False, 0
    while i < len(line):
        slashes = len(line[i:]) - len(line[i:].lstrip("\\"))
        i += slashes
        if i < len(line) and line[i] == '"':
            word += "\\" * (slashes // 2)
            if slashes % 2:
                word += '"'
            else:
                is_quoted, has_word = not is_quoted, True
            i += 1
            continue
        word += "\\" * slashes
        has_word = has_word or slashes > 0
        if i == len(line):
            break
        if line[i] in " \t" and not is_quoted:
            words, word, has_word = [*words, word] if has_word else words, "", False
        else:
            word, has_word = word + line[i], True
        i += 1
    return [*words, word] if has_word else words


def test_windows_reads_a_quoted_word_as_it_was_and_cmd_finds_no_command_in_it() -> None:
    words = [
        "C:\\runs\\a b\\",
        "R&D",
        "50%\\",
        "a^b",
        "",
        'say "hi"',
        "(x)",
        "книга",
        "a\\\\",
        "it's",
    ]
    line = " ".join(map(quoted_for_cmd, words))
    assert as_windows_reads(line) == words
    bare = re.sub(r'"[^"]*"', "", " ".join(quoted_for_cmd(w) for w in words if '"' not in w))
    assert not CMD_SPECIAL.search(bare)
    assert quoted(PureWindowsPath("C:/my runs/x"), windows=True) == '"C:\\my runs\\x"'
    assert quoted("runs\\tiny", windows=True) == "runs\\tiny"


def test_a_printed_command_begins_with_the_program() -> None:
    assert main_command("train", "--resume", Path("runs/a b")).startswith("python main.py train ")
    assert main_command("generate", "run", "--prompt", "a").endswith("generate run --prompt a")
