"""Notes: what people should know of their files is said in one line each."""

from collections.abc import Callable
from pathlib import Path

import pytest
from oracles.corpora import PROSE, write

from cfg_gpt2 import DataConfig
from data import notes
from data.notes import notes_on_marks
from load_data import load_corpus

SettingsOf = Callable[..., DataConfig]


def test_what_is_left_out_is_said_by_every_run_that_reads_the_text(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    for name, text in (("a.txt", PROSE), ("b.txt", ""), ("c.csv", "1"), (".d.txt", "x")):
        write(tmp_path / "texts" / name, text)
    config = settings_of(tmp_path / "texts")
    for _ in range(2):  # also where the token files are there already
        [note] = load_corpus(config).notes
        assert note.startswith("left out: ")
        assert {"1 empty files", "1 *.csv", "1 hidden"} == set(note[10:].split("; ")[0].split(", "))


def test_marks_between_documents_are_said(settings_of: SettingsOf, tmp_path: Path) -> None:
    file = write(tmp_path / "tiny.txt", (PROSE + "<|endoftext|>\n") * 3)
    [note] = load_corpus(settings_of(write(tmp_path / "a.txt", PROSE), file)).notes
    assert note.startswith(f"{file} has <|endoftext|> in it, which is read as text")
    assert load_corpus(settings_of(tmp_path / "a.txt")).notes == ()


def test_a_mark_is_found_wherever_reading_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "READ_BYTES", 16)
    for before in range(20):
        assert notes_on_marks([write(tmp_path / "a.txt", "x" * before + "<|endoftext|>" + "y" * 9)])
    monkeypatch.setattr(notes, "SEARCHED_BYTES", 32)
    far = write(tmp_path / "b.txt", "x" * 99 + "<|endoftext|>")
    assert notes_on_marks([far, write(tmp_path / "a.txt", "<|endoftext|>")]) == []
