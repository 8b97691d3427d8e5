"""Text files: which ones a path names, how they are split, and the chunks that are read."""

import codecs
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from oracles.corpora import PROSE, RUSSIAN, all_text, load_in_chunks, patient, write

from cfg_gpt2 import DataConfig
from data import SPLITS, text_files
from data.text_files import Span, expand, last_word_boundary, read_span, split_files
from load_data import load_corpus
from tokenizer import Tokenizer

TOKENIZER = Tokenizer.train([PROSE, "aa bb  aa\n\n bb \t's't " * 9], 300)

SettingsOf = Callable[..., DataConfig]


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
    named_twice = text_files.file_sizes(["~/b1.log", str(tmp_path / "b*.log")])
    assert [file.name for file in named_twice] == ["b1.log", "b2.log"]


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


@pytest.mark.parametrize("n_before", [0, 7, 100_000, 990_000])
def test_a_cp1251_file_is_named_with_the_byte_and_the_way_out(
    n_before: int, settings_of: SettingsOf, tmp_path: Path
) -> None:
    content = (b"tree and \n" * 100_000)[:n_before] + "Лиса".encode("cp1251") + b" ok" * 100
    sentence = rf"book.txt is not UTF-8 text: byte 0xcb at offset {n_before};.*iconv -f CP1251 -t"
    with pytest.raises(ValueError, match=sentence):
        load_corpus(settings_of(write(tmp_path / "book.txt", content)))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_character_cut_off_at_the_end_is_found(settings_of: SettingsOf, tmp_path: Path) -> None:
    content = RUSSIAN.encode() + "я".encode()[:1]
    with pytest.raises(ValueError, match=f"byte 0xd1 at offset {len(content) - 1}"):
        load_corpus(settings_of(write(tmp_path / "book.txt", content)))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_utf16_file_is_recognized(encoding: str, settings_of: SettingsOf, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not UTF-8 text: byte .*iconv -f UTF-16"):
        load_corpus(settings_of(write(tmp_path / "book.txt", RUSSIAN.encode(encoding))))
