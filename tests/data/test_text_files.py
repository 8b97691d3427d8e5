"""Text files: which ones a path names, how they are split, and the chunks that are read."""

import codecs
import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from oracles.corpora import PROSE, all_text, load_in_chunks, patient, write

from cfg_gpt2 import DataConfig
from data import SPLITS, text_files
from data.splits import split_files
from data.text_files import Span, expand, find_files, in_words, last_word_boundary, read_span
from run_directory.paths import explain
from tokenizer import Tokenizer

TOKENIZER = Tokenizer.train([PROSE, "aa bb  aa\n\n bb \t's't " * 9], 300)

SettingsOf = Callable[..., DataConfig]
posix = pytest.mark.skipif(os.name == "nt", reason="has no links without a right to them, no pipes")


# Which files


def test_a_folder_is_read_at_any_depth_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "deep/er/c.TXT", "d.csv", ".hidden/e.txt", "deep/._f.txt"):
        write(tmp_path / "texts" / name, "text")
    names = [file.name for file in expand(str(tmp_path / "texts"))]
    assert sorted(names) == ["a.md", "b.txt", "c.TXT"]


def test_globs_and_the_home_folder_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b1.log", "b2.log", "sub/b3.log", "x[1].txt"):
        write(tmp_path / name, "some text")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert [file.name for file in expand("~/b*.log")] == ["b1.log", "b2.log"]
    assert len(expand(str(tmp_path / "**/*.log"))) == 3
    assert expand("~/x[1].txt") == [tmp_path / "x[1].txt"]
    named_twice = find_files(["~/b1.log", str(tmp_path / "b*.log")])
    assert [file.name for file in named_twice.sizes] == ["b1.log", "b2.log"]


@patient
@given(share=st.floats(0.05, 0.95), text=st.text("aя語🙂 \n", min_size=8, max_size=40))
def test_the_end_of_the_training_part_never_lies_inside_a_character(
    share: float, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = write(tmp_path_factory.mktemp("split") / "text.txt", text)
    size = len(text.encode())
    spans = split_files({file: size}, share)
    read = {
        split: "".join(text for span in spans[split] for text in read_span(span))
        for split in SPLITS
    }
    assert read["train"] + read["validation"] == text
    assert 0 <= len(read["train"].encode()) - int(size * (1 - share)) <= 3


# Links, foreign files and empty ones


def named(folder: Path, left_out: Counter[str] | None = None) -> list[str]:
    """The files of a folder, by their paths in it."""
    files = expand(str(folder), left_out)
    return [file.relative_to(folder).as_posix() for file in files]


@posix
def test_what_a_folder_leaves_out_is_counted(tmp_path: Path) -> None:
    for name in ("a.txt", "b.csv", "c.CSV", "d", ".hidden/e.txt", "._a.txt", "f.jsonl", "sub/g.md"):
        write(tmp_path / name, "text")
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    left_out: Counter[str] = Counter()
    assert named(tmp_path, left_out) == ["a.txt", "sub/g.md"]
    assert left_out == {
        "*.csv": 2, "without a suffix": 1, "hidden": 2, "*.jsonl": 1,
        "links that lead to no file": 2, "pipes or devices": 1,
    }  # fmt: skip
    assert sorted(in_words(left_out).split(", "))[3:] == [
        "2 *.csv", "2 hidden", "2 links that lead to no file"
    ]  # fmt: skip
    many = Counter({f"*.{kind}": 9 - kind for kind in range(9)})
    assert in_words(many) == "9 *.0, 8 *.1, 7 *.2, 6 *.3, 5 *.4, 10 of other kinds"


@posix
def test_links_to_folders_are_followed_once_and_never_upwards(tmp_path: Path) -> None:
    outside, texts = tmp_path / "outside", tmp_path / "texts"
    for file in (outside / "o.txt", outside / "deep/p.txt", texts / "z/a.txt", tmp_path / "no.txt"):
        write(file, "text")
    (texts / "linked").symlink_to(outside)
    (texts / "again").symlink_to(outside)
    (texts / "alias").symlink_to(texts / "z")  # a folder keeps its own name
    (texts / "z/up").symlink_to(texts)
    (texts / "above").symlink_to(tmp_path)
    (outside / "back").symlink_to(texts)
    (outside / "deep/round").symlink_to(outside)
    assert len(named(texts)) == 3
    assert named(texts)[-1] == "z/a.txt"
    assert {name.rpartition("/")[2] for name in named(texts)} == {"a.txt", "o.txt", "p.txt"}
    assert len(find_files([str(texts), str(outside)]).sizes) == 3


def test_a_folder_that_may_not_be_read_is_counted_or_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "private/b.txt"):
        write(tmp_path / name, "text")
    scan = os.scandir

    def refuse(folder: Path) -> Iterator[os.DirEntry[str]]:
        if folder.name == "private":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root, who may run the tests, may read everything
    left_out: Counter[str] = Counter()
    assert named(tmp_path, left_out) == ["a.txt"]
    assert left_out == {"folders that may not be read": 1}
    with pytest.raises(PermissionError) as caught:
        expand(str(tmp_path / "private"))
    assert caught.value.filename == str(tmp_path / "private")


@posix
@pytest.mark.parametrize("name", ["dangling.txt", "*.txt", "loop-a.txt", "linked/dangling.txt"])
def test_a_link_that_leads_nowhere_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.txt", "text")
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    (tmp_path / "linked").symlink_to(".")
    (tmp_path / "loop-a.txt").symlink_to("loop-b.txt")
    (tmp_path / "loop-b.txt").symlink_to("loop-a.txt")
    with pytest.raises(OSError) as caught:
        expand(name)
    said = explain(caught.value)
    assert "dangling.txt is a link to nowhere, which does not exist" in said or "circle" in said
    assert name.strip("*") in said and "\n" not in said


@posix
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("/dev/zero", "/dev/zero is a device and no text file"),
        ("p*pe", "pipe is a stream and no text file"),
        ("a.txt/b", "a.txt/b does not exist; name text files"),
        ("x" * 300, "File name too long; choose a shorter name"),
        ("", "--data.path is empty"),
        ("csv", r"csv has no *.txt or *.md at any depth; it has 1 *.csv; name files or a glob"),
    ],
)
def test_what_is_no_text_file_is_refused_in_one_sentence(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.txt", "text")
    write(tmp_path / "csv/a.csv", "text")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(sentence)):
        expand(name)


@posix
def test_names_that_are_not_utf8_are_read_in_folders_and_globs(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path(os.fsdecode(bytes(tmp_path) + b"/enc/\xca\xed.txt")), PROSE)
    assert len(expand(str(tmp_path / "enc"))) == len(expand(str(tmp_path / "enc/*"))) == 1
    corpus = load_in_chunks(settings_of(tmp_path / "enc", tokenizer="char"))
    assert all_text(corpus) == PROSE
    with pytest.raises(ValueError, match=r"xca\\xed.txt is not UTF-8; rename it"):
        expand(os.fsdecode(bytes(tmp_path) + b"/enc/\xca\xed.txt"))


def test_empty_files_are_left_out_and_counted(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / f"{number}.txt", "text" if number < 3 else "")
    for path in (str(tmp_path), str(tmp_path / "*.txt")):
        found = find_files([path])
        assert len(found.sizes) == 3 and found.left_out == {"empty files": 2}
    with pytest.raises(ValueError, match=r"3.txt is empty; give it some text"):
        find_files([str(tmp_path / "3.txt")])
    with pytest.raises(ValueError, match=r"3.txt is empty, and so are 1 others; give"):
        find_files([str(tmp_path / "3.txt"), str(tmp_path / "4.txt")])


# Chunks


@patient
@given(
    text=st.text(st.sampled_from("ab'stвя12,.!  \n\n\t\r\u00a0\u2028\x1c\u3000🙂"), max_size=80),
    size=st.integers(1, 12),
)
def test_tokens_of_the_chunks_are_the_tokens_of_the_whole(
    text: str, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = write(tmp_path_factory.mktemp("chunks") / "text.txt", text)
    chunks = list(read_span(Span(file, 0, len(text.encode())), chunk_bytes=size))
    whole = text.replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(chunks) == whole
    assert list(chain(*TOKENIZER.encode_batch(chunks))) == TOKENIZER.encode(whole)


def test_long_texts_are_really_read_in_chunks(tmp_path: Path) -> None:
    file = write(tmp_path / "long.txt", PROSE * 200)
    chunks = list(read_span(Span(file, 0, file.stat().st_size)))
    assert len(chunks) == -(-file.stat().st_size // text_files.CHUNK_BYTES)
    assert all(
        chunk[0] in " \n" and not previous[-1].isspace() for previous, chunk in pairwise(chunks)
    )


def test_whatever_the_pattern_calls_white_space_is_white_space_to_word_boundaries() -> None:
    every_character = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    white_space = regex.findall(r"\s", every_character)
    assert len(white_space) == 25 and all(map(str.isspace, white_space))
    assert last_word_boundary("one two three") == len("one two")
    assert last_word_boundary("one two  ") == len("one two")
    assert last_word_boundary("one\u00a0 two") == 0


def test_a_text_without_spaces_is_cut_all_the_same(tmp_path: Path) -> None:
    text = "字" * 5_000
    span = Span(write(tmp_path / "long.txt", text), 0, 15_000)
    chunks = list(read_span(span, chunk_bytes=100, max_word_characters=1000))
    assert "".join(chunks) == text
    assert max(map(len, chunks)) < 1100


# Encodings and line ends


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 1 << 16])
def test_bom_and_crlf_vanish_wherever_the_chunks_end(
    chunk_bytes: int, settings_of: SettingsOf, tmp_path: Path
) -> None:
    content = codecs.BOM_UTF8 + "один\r\nдва\r\n\r\n three \r\n".encode() * 9
    file = write(tmp_path / "book.txt", content)
    config = settings_of(file, tokenizer="char", validation_share=0.3)
    corpus = load_in_chunks(config, chunk_bytes=chunk_bytes)
    text = all_text(corpus)
    assert text == "один\nдва\n\n three \n" * 9
    assert corpus.train.n_bytes + corpus.validation.n_bytes == len(text.encode())
