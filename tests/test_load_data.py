"""From text to token files to batches: what is read, what is refused, what is kept apart."""

import errno
import json
import math
import random
import re
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import load_data
from cfg_gpt2 import DataConfig
from data import text_files
from data.text_files import Span, read_span, word_border
from data.tiny_world.stories import LANGUAGES
from data.tiny_world.stories import corpus as told_by
from load_data import (
    SPLITS,
    Corpus,
    Split,
    Windows,
    evaluation_batches,
    load_corpus,
)
from loss import IGNORE_INDEX
from tokenizer import END_OF_TEXT, Tokenizer

PROSE = "The fox asked where the drum was.\nIt's in the barn, the hen said, isn't it?\n\n" * 12
RUSSIAN = "Лиса спросила, где барабан. «В сарае», — ответила курица.\n" * 12
TOKENIZER = Tokenizer.train([PROSE, "aa bb  aa\n\n bb \t's't " * 9], 300)
patient = settings(deadline=None)  # the machine may be busy


@pytest.fixture
def load(tmp_path):
    """load_corpus with a cache of its own."""

    def call(*paths: Path | str, report=None, **settings) -> Corpus:
        path = tuple(map(str, paths))
        return load_corpus(
            DataConfig(path=path, cache_dir=str(tmp_path / "cache"), **settings), report
        )

    return call


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def documents(corpus: Corpus, split: Split) -> list[str]:
    """The stream of a split, cut at its end-of-text tokens and decoded."""
    ids = split.tokens.tolist()
    end = corpus.tokenizer.end_of_text
    assert ids[0] == ids[-1] == end
    borders = [place for place, id in enumerate(ids) if id == end]
    return [corpus.tokenizer.decode(ids[start + 1 : stop]) for start, stop in pairwise(borders)]


# What is read


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
@pytest.mark.parametrize("text", [PROSE, RUSSIAN], ids=["english", "russian"])
def test_a_text_comes_back_from_its_token_files(text, tokenizer, load, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", 100)
    monkeypatch.setattr(load_data, "BATCH", 250)
    corpus = load(write(tmp_path / "book.txt", text), tokenizer=tokenizer)
    train, validation = documents(corpus, corpus.train), documents(corpus, corpus.validation)
    assert "".join(train + validation) == text
    assert (len(train), len(validation)) == (1, 1)
    assert corpus.train.n_bytes == len(train[0].encode())
    assert corpus.validation.n_bytes == len(validation[0].encode())
    assert corpus.train.tokens.dtype == np.uint16
    assert corpus.floor_bits_per_byte is None


def test_validation_is_exactly_the_last_tenth_of_an_ascii_text(load, tmp_path):
    for n in (10, 99, 921):
        corpus = load(write(tmp_path / f"{n}.txt", PROSE[:n]), tokenizer="char")
        assert documents(corpus, corpus.train) == [PROSE[: int(n * 0.9)]]  # nanoGPT's formula
        assert documents(corpus, corpus.validation) == [PROSE[int(n * 0.9) : n]]


@patient
@given(share=st.floats(0.05, 0.95), text=st.text("aя語🙂 \n", min_size=8, max_size=40))
def test_the_border_between_the_splits_never_lies_in_a_character(share, text, tmp_path_factory):
    file = write(tmp_path_factory.mktemp("border") / "text.txt", text)
    size = len(text.encode())
    spans = text_files.split_files({file: size}, share)
    read = {split: "".join(text for span in spans[split] for text in read_span(span))
            for split in SPLITS}  # fmt: skip
    assert read["train"] + read["validation"] == text
    assert 0 <= len(read["train"].encode()) - int(size * (1 - share)) <= 3


def test_few_files_each_give_their_end_to_validation(load, tmp_path):
    a, b = write(tmp_path / "a.txt", "a" * 100), write(tmp_path / "b.txt", "b" * 50)
    corpus = load(a, b, tokenizer="char", validation_share=0.2)
    assert documents(corpus, corpus.train) == ["a" * 80, "b" * 40]
    assert documents(corpus, corpus.validation) == ["a" * 20, "b" * 10]


def test_of_many_files_whole_ones_are_kept_for_validation(load, tmp_path):
    texts = [f"text number {number} {'x' * number}" for number in range(40)]
    for number, text in enumerate(texts):
        write(tmp_path / f"texts/{number}.txt", text)
    corpus = load(tmp_path / "texts", validation_share=0.25)
    train, validation = documents(corpus, corpus.train), documents(corpus, corpus.validation)
    assert sorted(train + validation) == sorted(texts)
    total = corpus.train.n_bytes + corpus.validation.n_bytes
    assert 0.25 <= corpus.validation.n_bytes / total < 0.25 + 60 / total
    assert {texts.index(text) for text in validation} != set(range(30, 40))  # drawn, not the last


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_both_splits_of_many_files_get_at_least_one(share, load, tmp_path):
    for number in range(20):
        write(tmp_path / f"texts/{number}.txt", f"text {number}")
    corpus = load(tmp_path / "texts", validation_share=share)
    assert min(len(documents(corpus, corpus.train)), len(documents(corpus, corpus.validation))) == 1


def test_a_folder_is_read_at_any_depth_without_hidden_and_other_files(tmp_path):
    for name in ("b.txt", "a.md", "deep/er/c.TXT", "d.csv", ".hidden/e.txt", "deep/._f.txt"):
        write(tmp_path / "texts" / name, "text")
    names = [file.name for file in text_files.expand(str(tmp_path / "texts"))]
    assert sorted(names) == ["a.md", "b.txt", "c.TXT"]


def test_globs_home_and_repeated_files_are_understood(tmp_path, monkeypatch):
    for name in ("b1.log", "b2.log", "sub/b3.log", "x[1].txt"):
        write(tmp_path / name, "some text")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert [file.name for file in text_files.expand("~/b*.log")] == ["b1.log", "b2.log"]
    assert len(text_files.expand(str(tmp_path / "**/*.log"))) == 3
    assert text_files.expand("~/x[1].txt") == [tmp_path / "x[1].txt"]
    config = DataConfig(path=("~/b1.log", str(tmp_path / "b*.log")))
    assert [span.path.name for span in load_data.Texts(config).spans["train"]] == [
        "b1.log",
        "b2.log",
    ]


def test_a_typed_end_of_text_stays_text(load, tmp_path):
    text = f"one{END_OF_TEXT}two " * 30
    for tokenizer in ("bpe", "char"):
        corpus = load(write(tmp_path / "book.txt", text), tokenizer=tokenizer)
        assert (
            "".join(documents(corpus, corpus.train) + documents(corpus, corpus.validation)) == text
        )


def test_a_vocabulary_beyond_65536_takes_32_bits(load, tmp_path):
    Tokenizer.characters([PROSE, "".join(map(chr, range(0x20000, 0x20000 + 66_000)))]).save(
        tmp_path
    )
    text = PROSE + chr(0x20000 + 65_999) * 5
    corpus = load(write(tmp_path / "book.txt", text), tokenizer=str(tmp_path))
    assert corpus.train.tokens.dtype == np.uint32
    assert max(corpus.validation.tokens.tolist()) > 65_536
    assert documents(corpus, corpus.validation)[0].endswith(chr(0x20000 + 65_999))


def test_characters_of_the_validation_part_belong_to_the_alphabet(load, tmp_path):
    corpus = load(write(tmp_path / "book.txt", "a" * 90 + "я" * 5), tokenizer="char")
    assert corpus.tokenizer.vocab_size == 3


def test_bpe_learns_from_the_training_part_only(load, tmp_path):
    corpus = load(write(tmp_path / "book.txt", "ab" * 90 + "xy" * 10), vocab_size=300)
    learned = [corpus.tokenizer.decode([id]) for id in range(257, corpus.tokenizer.vocab_size)]
    assert "ab" in learned and "xy" not in learned


def test_bpe_reads_a_bounded_sample_spread_over_the_whole_text(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", 100)
    monkeypatch.setattr(load_data, "SAMPLE", 5_000)
    text = "".join(f"word{number} " for number in range(5_000))
    source = load_data.Texts(DataConfig(path=(str(write(tmp_path / "long.txt", text)),)))
    sample = list(source.sample())
    assert 4_000 < sum(len(piece.text) for piece in sample) <= 5_000
    starts = np.array([piece.start for piece in sample])
    assert np.abs(starts / len(text) / 0.9 - np.linspace(0, 1, len(starts))).max() < 0.03


# Pieces, encodings, line ends


@patient
@given(text=st.text(st.sampled_from("ab'stвя12,.!  \n\n\t\r\u00a0\u2028\x1c\u3000🙂"), max_size=80),
       size=st.integers(1, 12))  # fmt: skip
def test_tokens_of_the_pieces_are_the_tokens_of_the_whole(text, size, tmp_path_factory):
    file = write(tmp_path_factory.mktemp("pieces") / "text.txt", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "PIECE", size)
        pieces = list(read_span(Span(file, 0, len(text.encode()))))
    whole = text.replace("\r\n", "\n").replace("\r", "\n")
    assert "".join(pieces) == whole
    assert list(chain(*TOKENIZER.encode_batch(pieces))) == TOKENIZER.encode(whole)


def test_long_texts_are_really_read_in_pieces(tmp_path):
    file = write(tmp_path / "long.txt", PROSE * 200)
    pieces = list(read_span(Span(file, 0, file.stat().st_size)))
    assert len(pieces) == -(-file.stat().st_size // text_files.PIECE)
    assert all(piece[0] in " \n" and not previous[-1].isspace()
               for previous, piece in pairwise(pieces))  # fmt: skip


def test_whatever_the_pattern_calls_white_space_is_white_space_to_word_border():
    every_character = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    white_space = regex.findall(r"\s", every_character)
    assert len(white_space) == 25 and all(map(str.isspace, white_space))
    assert word_border("one two three") == len("one two")
    assert word_border("one two  ") == len("one two")
    assert word_border("one\u00a0 two") == 0


def test_a_text_without_spaces_is_cut_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", 100)
    monkeypatch.setattr(text_files, "LONGEST_WORD", 1000)
    text = "字" * 5_000
    pieces = list(read_span(Span(write(tmp_path / "long.txt", text), 0, 15_000)))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) < 1100


@pytest.mark.parametrize("piece", [1, 2, 3, 1 << 16])
def test_bom_and_crlf_vanish_wherever_the_pieces_end(piece, load, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", piece)
    content = b"\xef\xbb\xbf" + "один\r\nдва\r\n\r\n three \r\n".encode() * 9
    corpus = load(write(tmp_path / "book.txt", content), tokenizer="char", validation_share=0.3)
    text = "".join(documents(corpus, corpus.train) + documents(corpus, corpus.validation))
    assert text == "один\nдва\n\n three \n" * 9
    assert corpus.train.n_bytes + corpus.validation.n_bytes == len(text.encode())


@pytest.mark.parametrize("n_before", [0, 7, 100_000, 990_000])
def test_a_cp1251_file_is_named_with_the_byte_and_the_way_out(n_before, load, tmp_path):
    content = (b"tree and \n" * 100_000)[:n_before] + "Лиса".encode("cp1251") + b" ok" * 100
    sentence = rf"book.txt is not UTF-8 text: byte 0xcb at offset {n_before};.*iconv -f CP1251 -t"
    with pytest.raises(ValueError, match=sentence):
        load(write(tmp_path / "book.txt", content))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_character_cut_off_at_the_end_is_found(load, tmp_path):
    content = RUSSIAN.encode() + "я".encode()[:1]
    with pytest.raises(ValueError, match=f"byte 0xd1 at offset {len(content) - 1}"):
        load(write(tmp_path / "book.txt", content))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_utf16_file_is_recognized(encoding, load, tmp_path):
    with pytest.raises(ValueError, match=r"is not UTF-8 text: byte .*iconv -f UTF-16"):
        load(write(tmp_path / "book.txt", RUSSIAN.encode(encoding)))


# What is refused


@pytest.mark.parametrize(
    ("make", "settings", "kind", "sentence"),
    [
        (lambda d: d / "nothing.txt", {}, FileNotFoundError, "nothing.txt does not exist; name"),
        (lambda d: d / "*.txt", {}, FileNotFoundError, r"\*.txt does not exist"),
        (lambda d: write(d / "in/a.csv", "x").parent, {}, FileNotFoundError, r"has no \*.txt or"),
        (lambda d: write(d / "a.txt", ""), {}, ValueError, "a.txt is empty"),
        (lambda d: write(d / "a.txt", PROSE), {"stories": 500}, ValueError, "stories 500 is for"),
        (lambda d: write(d / "a.txt", "я"), {}, ValueError, "the validation split is empty"),
        (lambda d: write(d / "a.txt", "ab"), {"validation_share": 0.9}, ValueError, "train split"),
        (lambda d: write(d / "a.txt", b"\xef\xbb\xbf"), {}, ValueError, "train split is empty"),
        (lambda d: write(d / "a.txt", PROSE), {"tokenizer": "bep"}, FileNotFoundError, "bep is"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_sentence(
    make, settings, kind, sentence, load, tmp_path
):
    with pytest.raises(kind, match=sentence) as caught:
        load(make(tmp_path), **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


def test_a_world_stands_alone_and_goes_before_a_file_of_its_name(load, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tiny-world", PROSE)
    with pytest.raises(ValueError, match=r"tiny-world stands alone.*./tiny-world"):
        load("tiny-world", "tiny-world-ru")
    assert load("tiny-world", stories=100).floor_bits_per_byte is not None
    assert load("./tiny-world").floor_bits_per_byte is None


def test_an_unseen_character_is_found_in_its_file(load, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", 50)
    Tokenizer.characters([PROSE]).save(tmp_path)
    book = write(tmp_path / "book.txt", PROSE[:500] + "ё" + PROSE)
    sentence = r"U\+0451\) at position 500 of the train text of .*book.txt is not among"
    with pytest.raises(ValueError, match=sentence):
        load(book, tokenizer=str(tmp_path))


def test_a_text_shorter_than_a_window_is_refused_with_both_numbers(load, tmp_path):
    corpus = load(write(tmp_path / "ten.txt", "0123456789"), tokenizer="char")
    with pytest.raises(ValueError, match=r"has 11 tokens.* 64 needs 65; .*context-length 10$"):
        Windows(corpus.train, 64, 1, corpus.tokenizer.end_of_text)
    tokens, targets = Windows(corpus.train, 10, 1, corpus.tokenizer.end_of_text).batch(0, 1)
    assert (tokens[0, 1:].tolist(), targets[0, -1]) == (targets[0, :-1].tolist(), tokens[0, 0])


# The cache


def test_a_second_run_maps_the_files_of_the_first(load, tmp_path, monkeypatch):
    book = write(tmp_path / "book.txt", PROSE)
    first = load(book)
    monkeypatch.setattr(load_data, "make", None)
    second = load(book)
    assert isinstance(second.train.tokens, np.memmap)
    assert second.train.tokens.tolist() == first.train.tokens.tolist()
    assert second.tokenizer.encode(PROSE) == first.tokenizer.encode(PROSE)


def test_another_text_or_setting_makes_other_files(load, tmp_path):
    book = write(tmp_path / "book.txt", PROSE)
    load(book)
    load(book, vocab_size=300)
    load(book, validation_share=0.2)
    load(book, tokenizer="char")
    write(book, PROSE + PROSE)
    corpus = load(book)
    assert corpus.train.n_bytes + corpus.validation.n_bytes == 2 * len(PROSE)
    assert len(list((tmp_path / "cache").iterdir())) == 5


def test_a_changed_vocabulary_makes_other_files(load, tmp_path):
    book = write(tmp_path / "book.txt", PROSE)
    Tokenizer.characters([PROSE]).save(tmp_path / "vocabulary")
    load(book, tokenizer=str(tmp_path / "vocabulary"))
    Tokenizer.train([PROSE], 280).save(tmp_path / "vocabulary")
    corpus = load(book, tokenizer=str(tmp_path / "vocabulary"))
    assert corpus.tokenizer.vocab_size == 280


def test_a_full_disk_names_the_folder_and_leaves_nothing_behind(load, tmp_path):
    resource = pytest.importorskip("resource")  # a limit on file sizes acts as a full disk
    book = write(tmp_path / "book.txt", "".join(f"{number} " for number in range(100_000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{tmp_path / 'cache'}") as caught:
            load(book, tokenizer="char")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_run_leaves_nothing_behind(load, tmp_path):
    def interrupt(done: int, total: int, what: str) -> None:
        if what.startswith("tokenizing the validation"):
            raise KeyboardInterrupt

    book = write(tmp_path / "book.txt", PROSE)
    with pytest.raises(KeyboardInterrupt):
        load(book, report=interrupt)
    assert list((tmp_path / "cache").iterdir()) == []
    assert "".join(documents(load(book), load(book).train)) == PROSE[: int(len(PROSE) * 0.9)]


def test_two_runs_at_the_same_time_do_not_disturb_each_other(load, tmp_path):
    book = write(tmp_path / "book.txt", PROSE)
    inner: list[Corpus] = []

    def begin_another_run(done: int, total: int, what: str) -> None:
        if what.startswith("tokenizing the validation") and not inner:
            inner.append(load(book))

    outer = load(book, report=begin_another_run)
    assert outer.train.tokens.tolist() == inner[0].train.tokens.tolist()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_report_goes_from_nothing_to_all_in_each_stage(load, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE", 64)
    monkeypatch.setattr(load_data, "BATCH", 200)
    told: list[tuple[int, int, str]] = []
    load(write(tmp_path / "book.txt", PROSE), report=lambda *what: told.append(what))
    stages = list(dict.fromkeys(what for _, _, what in told))
    assert stages == ["training the tokenizer", "tokenizing the train text",
                      "tokenizing the validation text"]  # fmt: skip
    for stage in stages:
        done = [(done, total) for done, total, what in told if what == stage]
        assert done[0][0] == 0 and done[-1][0] == done[-1][1]
        assert done == sorted(done)
    assert len(told) > 6


# The built-in worlds


@pytest.mark.parametrize("name", list(LANGUAGES))
def test_a_world_gives_its_stories_and_its_floor(name, load):
    corpus = load(name, stories=200)
    train, validation = told_by(LANGUAGES[name], 200, 10)
    assert documents(corpus, corpus.train) == [story.text for story in train]
    assert documents(corpus, corpus.validation) == [story.text for story in validation]
    n_bytes = sum(len(story.text.encode()) for story in validation)
    assert corpus.validation.n_bytes == n_bytes
    floor = sum(story.bits for story in validation) / n_bytes
    assert corpus.floor_bits_per_byte == pytest.approx(floor)


def test_the_validation_share_of_a_world_is_obeyed(load):
    corpus = load("tiny-world", stories=100, validation_share=0.3)
    assert len(documents(corpus, corpus.train)) == 100
    assert len(documents(corpus, corpus.validation)) == 30


@pytest.mark.parametrize(("stories", "expected"), [(None, 1000), (1000, 50), (100_000, 1000)])
def test_a_world_keeps_a_twentieth_and_at_most_a_thousand_stories(stories, expected):
    config = DataConfig(path=("tiny-world",), stories=stories)
    assert load_data.World("tiny-world", config).n_validation == expected


# Batches


NO_BORDER = 60_000  # an end-of-text token that the stream does not have


def split_of(n_tokens: int) -> Split:
    """Every token is its own position, so that a window shows where it was cut."""
    return Split(np.arange(n_tokens, dtype=np.uint16), n_tokens)


def spans_of_epoch(windows: Windows, epoch: int) -> list[tuple[int, int]]:
    """All windows of an epoch, in the order in which they are read."""
    spans: list[tuple[int, int]] = []
    for number in range(10_000):
        span = windows.span(number)
        if windows.epoch > epoch:
            return spans
        spans += [span] * (windows.epoch == epoch)
    raise AssertionError("an epoch without an end")


sizes = st.tuples(st.integers(1, 9), st.integers(0, 60)).map(lambda two: (two[0], sum(two) + 1))


@patient
@given(sizes, st.integers(-5, 2**40), st.integers(0, 3))
def test_an_epoch_covers_each_window_once_and_no_token_twice(size, seed, epoch):
    context_length, n_tokens = size
    windows = Windows(split_of(n_tokens), context_length, seed, NO_BORDER)
    spans = sorted(spans_of_epoch(windows, epoch))
    assert [stop for _, stop in spans[:-1]] == [start for start, _ in spans[1:]]
    assert all(stop - start == context_length for start, stop in spans[:-1])
    assert spans[0][0] < context_length and spans[-1][1] == n_tokens - 1


@patient
@given(sizes, st.integers(0, 9), st.integers(0, 40), st.integers(1, 20))
def test_a_batch_holds_the_windows_of_its_numbers_and_their_targets(size, seed, first, count):
    context_length, n_tokens = size
    windows = Windows(split_of(n_tokens), context_length, seed, NO_BORDER)
    tokens, targets = windows.batch(first, count)
    assert tokens.shape == targets.shape == (count, context_length)
    assert tokens.dtype == targets.dtype == torch.int64
    counts = targets != IGNORE_INDEX
    assert torch.equal(targets[counts], tokens[counts] + 1)
    assert (tokens[~counts] == NO_BORDER).all()
    for row, number in enumerate(range(first, first + count)):
        start, stop = windows.span(number)
        assert targets[row][counts[row]].tolist() == list(range(start + 1, stop + 1))


@patient
@given(st.integers(0, 200), st.integers(1, 60), st.integers(0, 300))
def test_a_window_depends_on_its_number_and_the_seed_alone(first, count, elsewhere):
    at_once, resumed = (Windows(split_of(100), 7, 3, NO_BORDER) for _ in range(2))
    resumed.batch(elsewhere, 2)
    whole, _ = at_once.batch(first, count)
    rows = [resumed.batch(number, 1)[0] for number in reversed(range(first, first + count))]
    assert torch.equal(whole, torch.cat(rows[::-1]))


def test_epochs_and_seeds_differ_in_order_and_in_phase():
    windows = Windows(split_of(10 * 7), 7, 1, NO_BORDER)
    epochs = [spans_of_epoch(windows, epoch) for epoch in range(50)]
    assert len(set(map(tuple, epochs))) == 50
    assert {min(spans)[0] for spans in epochs} == set(range(7))
    assert spans_of_epoch(Windows(split_of(70), 7, 2, NO_BORDER), 0) != epochs[0]


@patient
@given(st.lists(st.integers(1, 7), min_size=10, max_size=30), st.integers(0, 5))
def test_windows_begin_where_documents_begin_when_all_documents_fit(lengths, seed):
    split = stream_of(lengths)
    windows = Windows(split, 8, seed, end_of_text=0)
    first, *others = sorted(spans_of_epoch(windows, 0))
    assert all(split.tokens[start] == split.tokens[stop] == 0 for start, stop in others)
    assert split.tokens[first[1]] == 0


def stream_of(lengths: list[int]) -> Split:
    """Documents of these lengths; 0 is the end of text, other tokens count on."""
    ids = [0]
    for length in lengths:
        ids += [*range(len(ids) + 1, len(ids) + 1 + length), 0]
    return Split(np.array(ids, dtype=np.uint16), 1)


lengths = st.lists(st.integers(1, 30), min_size=1, max_size=20)


@patient
@given(lengths, st.integers(1, 20), st.integers(1, 5))
def test_evaluation_reads_every_target_once_behind_its_token(lengths, context_length, batch_size):
    split = stream_of(lengths)
    read = []
    for tokens, targets in evaluation_batches(split, context_length, batch_size, 0):
        assert tokens.shape == targets.shape and tokens.dtype == targets.dtype == torch.int64
        counts = targets != IGNORE_INDEX
        longest = int(counts.sum(dim=1).max())
        rounded = min(context_length, math.ceil(longest / 16) * 16)
        assert tokens.shape[0] <= batch_size and tokens.shape[1] == rounded
        assert counts[:, 0].all() and (counts[:, 1:] <= counts[:, :-1]).all()  # padding comes last
        assert (tokens[~counts] == 0).all()
        read += zip(tokens[counts].tolist(), targets[counts].tolist(), strict=True)
    stream = split.tokens.tolist()
    assert sorted(read) == sorted(pairwise(stream))  # each holds an id that occurs once


@patient
@given(lengths, st.integers(1, 20))
def test_evaluation_reads_each_document_that_fits_whole_and_from_its_start(lengths, context_length):
    batches = evaluation_batches(stream_of(lengths), context_length, 4, end_of_text=0)
    rows = [row for tokens, _ in batches for row in tokens.tolist()]
    start = 0
    for length in lengths:
        document = [0, *range(start + 2, start + 2 + length)]
        start += length + 1
        if len(document) <= context_length:
            window = next(row for row in rows if document[1] in row)
            place = window.index(document[1]) - 1
            assert window[place : place + len(document)] == document
        else:
            assert any(row[:2] == document[:2] for row in rows) or context_length == 1


def test_one_long_text_is_evaluated_in_full_windows_end_to_end():
    split = stream_of([99])
    [(tokens, targets)] = evaluation_batches(split, 25, 10, end_of_text=0)
    assert tokens.flatten().tolist() == split.tokens.tolist()[:-1]
    assert targets.flatten().tolist() == split.tokens.tolist()[1:]


def test_documents_that_fill_a_window_exactly_share_it():
    [(tokens, _)] = evaluation_batches(stream_of([3, 4]), 9, 10, end_of_text=0)
    assert tokens.shape == (1, 9)


def test_borders_are_found_in_every_part_of_a_long_stream(monkeypatch):
    split = stream_of(random.Random(1).choices(range(1, 30), k=200))
    monkeypatch.setattr(load_data, "SCAN", 64)
    borders = load_data.find_borders(split.tokens, 0).tolist()
    assert borders == [place for place, id in enumerate(split.tokens.tolist()) if id == 0]


def test_the_meta_file_says_what_the_tokens_were_made_from(load, tmp_path):
    book = write(tmp_path / "book.txt", PROSE)
    load(book)
    [folder] = (tmp_path / "cache").iterdir()
    assert re.fullmatch("[0-9a-f]{16}", folder.name)
    names = {file.name for file in folder.iterdir()}
    assert names == {"train.bin", "validation.bin", "tokenizer.json", "meta.json"}
    assert str(book) in json.dumps(json.loads((folder / "meta.json").read_text())["source"])


def test_neighbouring_windows_have_similar_lengths_and_none_is_lost():
    generator = np.random.default_rng(0)
    split = stream_of(generator.integers(1, 60, size=2000).tolist())
    windows = Windows(split, 64, 1, end_of_text=0)
    spans = windows.spans
    lengths = (spans[:, 1] - spans[:, 0])[: len(spans) // 64 * 64].reshape(-1, 64)
    assert (np.diff(lengths, axis=1) >= 0).all()
    first = spans[:, 0].tolist()
    assert len(set(first)) == len(first)
    assert sorted(first) != first  # groups are shuffled
    ends = dict(spans.tolist())
    chain, here = 0, min(first)
    while here in ends:
        here, chain = ends[here], chain + 1
    assert chain == len(spans) and here == len(split.tokens) - 1
