"""Training BPE: in a bounded time, with the library's own tokens, and it can be stopped."""

import _thread
import random
import signal
import threading
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, trainers

from run_directory import train_bpe as module
from run_directory.train_bpe import PART, cut_long_words, train_bpe
from run_directory.vocabulary import byte_level
from tokenizer import END_OF_TEXT, Tokenizer, split_words

SHARED = Path(__file__).resolve().parents[3] / "shared"
CORPORA = [SHARED / "corpora" / name for name in ("tinyshakespeare.txt", "dead_souls_ru.txt")]
needs_shared = pytest.mark.skipif(
    not all(path.exists() for path in CORPORA),
    reason="the corpora lie outside the repository, in ../shared",
)

TEXT = "The fox asked where the drum was. It's in the barn! «В сарае», — сказала курица.\n" * 9


def trained_by_the_library_alone(texts: list[str], vocab_size: int) -> str:
    library = byte_level(models.BPE())
    library.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[END_OF_TEXT],
            show_progress=False,
        ),
    )
    return library.to_str()


@pytest.mark.parametrize(
    "texts",
    [
        [TEXT],
        [],
        ["a" * 500 + " "] * 9,
        ["abc " * 5000, "\n" * 500, "https://a.b/c1_" * 99, "二" * 500],
    ],
)
def test_words_of_up_to_five_hundred_characters_give_the_librarys_own_tokens(
    texts: list[str],
) -> None:
    assert train_bpe(texts, 400, END_OF_TEXT).to_str() == trained_by_the_library_alone(texts, 400)


@needs_shared
@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_the_corpora_give_the_librarys_own_tokens(corpus: Path) -> None:
    text = corpus.read_text(encoding="utf-8")
    assert list(cut_long_words([text])) == [text]


@settings(deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from("aя字1²_-!. \n\u2028\u0301🙂"), st.integers(1, 2000)), max_size=9
    )
)
def test_no_word_reaches_twice_the_part_and_shorter_words_are_whole(
    runs: list[tuple[str, int]],
) -> None:
    text = "".join(character * count for character, count in runs)
    parts = list(cut_long_words([text]))
    assert "".join(parts) == text
    words = [b"".join(word).decode() for part in parts for word in split_words(part)]
    assert max(map(len, words), default=0) < 2 * PART
    ends = set(accumulate(map(len, parts)))
    place = 0
    for word in split_words(text):
        size = len(b"".join(word).decode())
        assert size > PART or not ends & set(range(place + 1, place + size))
        place += size


@pytest.mark.parametrize("letters", ["ACGT", "a", "字文", "-="])
def test_one_word_of_200_000_letters_comes_back(letters: str) -> None:
    text = "".join(random.Random(1).choices(letters, k=200_000))
    tokenizer = Tokenizer.train([text], 300)  # 18 seconds where the word is not cut
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) < 0.6 * len(text.encode())


def test_an_error_of_the_texts_comes_through() -> None:
    def texts() -> Iterator[str]:
        yield TEXT
        raise ValueError("byte 0xff at offset 3")

    with pytest.raises(ValueError, match=r"^byte 0xff at offset 3$"):
        train_bpe(texts(), 300, END_OF_TEXT)


def test_ctrl_c_ends_the_reading_of_texts_and_the_learning_of_merges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = threading.active_count()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored

    def endless() -> Iterator[str]:
        _thread.interrupt_main()
        while True:
            yield TEXT

    with pytest.raises(KeyboardInterrupt):
        train_bpe(endless(), 300, END_OF_TEXT)
    assert threading.active_count() == threads

    def count_forever(library: Library, *rest: object) -> None:
        _thread.interrupt_main()
        forever.wait(60)

    forever = threading.Event()
    monkeypatch.setattr(Library, "train_from_iterator", count_forever)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train_bpe([TEXT], 300, END_OF_TEXT)
    assert time.monotonic() - started < 9
    forever.set()
    signal.signal(signal.SIGINT, before)


def test_whoever_waits_is_told_after_the_texts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def texts() -> Iterator[str]:
        yield TEXT * 2000
        events.append("read")

    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    train_bpe(texts(), 300, END_OF_TEXT, lambda: events.append("waits"))
    assert events[0] == "read"
