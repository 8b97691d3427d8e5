"""File types: what is no plain text is recognized by its first bytes, whatever its name."""

import gzip
import io
import json
import shlex
import sqlite3
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from oracles.corpora import PROSE, write

from cfg_gpt2 import DataConfig
from data.file_types import FOREIGN, common_type, type_of
from load_data import load_corpus

SettingsOf = Callable[..., DataConfig]


def zip_of(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "/"), text)
    return content.getvalue()


def docx() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", PROSE)
    return content.getvalue()


def tar_of(file: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(file, "b.txt")
    return content.getvalue()


def database(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "base")
    connection.execute("create table texts (text)")
    connection.commit()
    connection.close()
    return (folder / "base").read_bytes()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (lambda d: gzip.compress(PROSE.encode()), "a gzip file"),
        (lambda d: zip_of(a="text"), "a zip archive"),
        (lambda d: docx(), "an Office document"),
        (lambda d: zip_of(mimetype="application/epub+zip"), "an EPUB book"),
        (lambda d: tar_of(write(d / "b.txt", PROSE)), "a tar archive"),
        (lambda d: database(d), "an SQLite database"),
        (lambda d: b"%PDF-1.7\n" + PROSE.encode(), "a PDF"),
        (lambda d: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
        (lambda d: b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        (lambda d: b"GIF89a\x01\0\x01\0", "a GIF image"),
        (lambda d: b"RIFF\x24\0\0\0WAVEfmt ", "a sound or a film"),
        (lambda d: b"{\\rtf1\\ansi\\ansicpg1251 text}", "an RTF document"),
        (lambda d: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500, "of an old kind"),
        (lambda d: b"\n<!DOCTYPE HTML><html><body>404", "HTML, a web page"),
        (lambda d: b"\xef\xbb\xbf<HTML>\n<head>", "HTML, a web page"),
        (lambda d: b"<?xml version='1.0'?>\n<!-- page --><!doctype html>", "HTML, a web page"),
        (lambda d: b"<?xml version='1.0'?>\n<FictionBook>", "an FB2 book"),
        (
            lambda d: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
            "a Git LFS pointer to the text, which is not here and no plain text; fetch the text "
            "with git -C",
        ),
    ],
)
def test_a_foreign_file_is_named_by_train(
    content: Callable[[Path], bytes], name: str, settings_of: SettingsOf, tmp_path: Path
) -> None:
    file = write(tmp_path / "my text.txt", content(tmp_path))
    with pytest.raises(ValueError) as caught:
        load_corpus(settings_of(file))
    said = str(caught.value)
    assert said.startswith(f"{file} is ") and name in said and "\n" not in said
    assert "iconv" not in said and not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "text",
    [
        PROSE, "[1] Smith, J. On foxes.\n[2] Jones [3]", "[Verse 1]\nThe fox", "{a set} of foxes",
        "[[link]] to a page", '["Go", said she]', "<b>bold</b> words", "BZh is a name", "BMW cars",
        "{\n  x = 1;\n}\n", "MZ and DOS", "GIF is a format", "null and void", '"quoted"\n',
        "[1, 2, 3]\n[4, 5, 6]\n", "{'text': 'of Python'}", "PK is a name", "%percent",
        "<!-- a comment --> of a README", "ID3 is a tag", '{"a": 1}\nis what it sent.\nSo be it.\n',
    ],
)  # fmt: skip
def test_text_that_looks_like_something_else_is_text(text: str, tmp_path: Path) -> None:
    assert type_of(write(tmp_path / "a.txt", text)) == "text"


@pytest.mark.parametrize("suffix", [".html", ".htm", ".XHTML"])
def test_a_page_that_is_named_as_one_is_text_with_its_tags(suffix: str, tmp_path: Path) -> None:
    assert type_of(write(tmp_path / f"a{suffix}", "<!doctype html><p>fox")) == "text"


ROWS = [{"text": f"Line number {number}.\n", "n": number} for number in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "content", "type"),
    [
        ("a.jsonl", LINES, "JSONL"),
        ("a.NDJSON", "not even JSON", "JSONL"),
        ("a.txt", LINES, "JSONL"),
        ("a.json", "\ufeff\n\n" + LINES.replace("\n", "\r\n"), "JSONL"),
        ("a", json.dumps(ROWS[0]), "JSONL"),
        ("a.txt", LINES.replace("\n", "\n\n") + "broken", "JSONL"),
        ("a.txt", json.dumps({"text": "x" * 100_000}) + "\n", "JSONL"),
        ("a.json", json.dumps(ROWS), "one array of JSON"),
        ("a.jsonl", json.dumps(ROWS, indent=2), "one array of JSON"),
        ("a.txt", json.dumps(ROWS, indent=2)[:500], "one array of JSON"),
        ("a.json", json.dumps(["a text", "another"]), "one array of JSON"),
        ("a.json", json.dumps(["a text", "another"], indent=1), "one array of JSON"),
        ("a.ipynb", json.dumps({"cells": ROWS}, indent=1), "JSON and no plain text"),
        ("a.txt", "{" + '"a":{' * 100_000, "JSON and no plain text"),
        ("a.txt", "[" + '{"a":[' * 100_000, "one array of JSON"),
    ],
)
def test_json_is_recognized_by_its_content(
    name: str, content: str, type: str, tmp_path: Path
) -> None:
    file = write(tmp_path / name, content)
    if type == "JSONL":
        assert type_of(file) == "JSONL"
    else:
        with pytest.raises(ValueError, match=rf"{name} is {type}.*prepare"):
            type_of(file)


def test_files_of_several_kinds_are_named(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.txt", PROSE), write(tmp_path / "b.txt", LINES)]
    with pytest.raises(ValueError, match=r"a.txt \(text\) and .*b.txt \(JSONL\); make shards"):
        common_type(files)


def test_the_printed_command_unpacks_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "it's my book.txt", gzip.compress(PROSE.encode()))
    with pytest.raises(ValueError, match="a gzip file") as caught:
        type_of(file)
    command = str(caught.value).partition("unpack it with ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    out = tmp_path / shlex.split(command)[-1]
    assert out.read_text() == PROSE and out != file


def test_a_gzip_file_in_a_folder_is_named(settings_of: SettingsOf, tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / f"texts/{number}.txt", PROSE)
    write(tmp_path / "texts/7.txt", gzip.compress(PROSE.encode()))
    with pytest.raises(ValueError, match=r"texts/7.txt is a gzip file"):
        load_corpus(settings_of(tmp_path / "texts"))


def test_no_first_bytes_are_named_twice() -> None:
    assert len({magic for magic, _, _ in FOREIGN}) == len(FOREIGN)
