"""Training BPE: in a bounded time, with the library's own tokens, and it can be stopped."""

import _thread
import random
import threading
import time
from collections.abc import Iterator

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, trainers

from run_directory import train_bpe as module
from run_directory.train_bpe import MAX_WORD_BYTES, train_bpe
from run_directory.vocabulary import byte_level
from tokenizer import END_OF_TEXT, Tokenizer

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
    "texts", [[TEXT], [], ["a" * MAX_WORD_BYTES], ["abc " * 5000, "\n" * 900, "https://a.b/" * 80]]
)
def test_words_of_up_to_a_thousand_bytes_give_the_librarys_own_tokens(texts: list[str]) -> None:
    assert train_bpe(texts, 400, END_OF_TEXT).to_str() == trained_by_the_library_alone(texts, 400)


@pytest.mark.parametrize("letters", ["ACGT", "a", "字文", "-="])
def test_one_word_of_half_a_million_letters_is_learned_and_encoded_soon(letters: str) -> None:
    text = "".join(random.Random(1).choices(letters, k=500_000))
    started = time.process_time()
    tokenizer = Tokenizer.train([text], 300)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    # the library alone takes more than two minutes for the training
    assert time.process_time() - started < 30
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
    assert time.monotonic() - started < 30
    forever.set()


def test_whoever_waits_is_told_after_the_texts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def texts() -> Iterator[str]:
        yield TEXT * 2000
        events.append("read")

    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    train_bpe(texts(), 300, END_OF_TEXT, lambda: events.append("waits"))
    assert events[0] == "read"
