"""Remembered words give the library's tokens, whatever the text."""

import re
from pathlib import Path

import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from oracles.corpora import patient
from tokenizers import Tokenizer as Library
from tokenizers import pre_tokenizers

from preparation.word_cache import (
    PYTHON_WHITE_SPACE,
    SIMPLE_WORDS,
    WHITE_SPACE,
    WORDS,
    WordCache,
    splits_before_white_space,
)
from tokenizer import END_OF_TEXT, Tokenizer

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
PROSE = "The fox asked where the drum was. It's in the barn, «сказала» лиса, isn't it?\n\n" * 12
TOKENIZER = Tokenizer.train([PROSE, "aa bb  aa\n\n bb \t's't  \u00a0 x\u3000\u3000 " * 9], 330)
U2 = np.dtype("<u2")


def library(text: str) -> list[int]:
    return TOKENIZER.encode(text)


def ids(words: WordCache, text: str) -> list[int]:
    return np.frombuffer(words.encode(text), words.dtype).tolist()


texts = st.text(
    st.sampled_from("ab'stвя12,.!  \n\n\t\r\u00a0\u2028\x1c\u3000\u0301🙂"), max_size=60
)


@patient
@given(st.lists(st.one_of(texts, st.text(max_size=40)), max_size=5))
def test_remembered_words_give_the_tokens_of_the_library(written: list[str]) -> None:
    words = WordCache(TOKENIZER, U2)
    for text in [*written, *reversed(written), " ".join(written)]:
        assert ids(words, text) == library(text)


@pytest.mark.slow
def test_every_character_is_cut_as_the_library_cuts_it() -> None:
    words = WordCache(TOKENIZER, U2)
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for first in range(0, len(characters), 10_000):
        block = characters[first : first + 10_000]
        text = "".join(f"a{c} {c}{c}1 {c}  {c}" for c in block)
        assert ids(words, text) == library(text)


def test_white_space_is_what_the_pattern_calls_so() -> None:
    every_character = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert sorted(WHITE_SPACE) == sorted(set(regex.findall(r"\s", every_character)))
    assert "".join(WORDS.findall(every_character)) == every_character
    differs = {c for c in every_character if bool(re.match(r"\s", c)) != (c in WHITE_SPACE)}
    assert differs == set(PYTHON_WHITE_SPACE)


@patient
@given(texts)
def test_both_patterns_find_the_same_words_in_a_text_without_the_four_characters(text: str) -> None:
    text = "".join(c for c in text if c not in PYTHON_WHITE_SPACE)
    assert SIMPLE_WORDS.findall(text) == WORDS.findall(text)


@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "dead_souls_ru.txt"])
def test_a_book_has_the_same_tokens(name: str) -> None:
    if not (CORPORA / name).exists():
        pytest.skip(f"{name} is not here")
    text = (CORPORA / name).read_text(encoding="utf-8")[:300_000]
    words = WordCache(TOKENIZER, U2)
    pieces = [text[n : n + 50_000] for n in range(0, len(text), 50_000)]
    assert [ids(words, piece) for piece in pieces] == TOKENIZER.encode_batch(pieces)
    assert len(words.tokens) < len(text) / 10


def test_the_cache_is_bounded() -> None:
    words = WordCache(TOKENIZER, U2, max_characters=1000)
    for number in range(300):
        text = f" word{number} and the {number} others"
        assert ids(words, text) == library(text)
        assert words.n_characters < 1000 + 60
        assert words.n_characters == sum(map(len, words.tokens))


def test_a_typed_end_of_text_stays_text() -> None:
    text = f"one{END_OF_TEXT}two {END_OF_TEXT} "
    assert ids(WordCache(TOKENIZER, U2), text) == library(text)
    assert TOKENIZER.end_of_text not in library(text)


def test_a_tokenizer_that_cuts_otherwise_is_asked_for_every_text() -> None:
    assert splits_before_white_space(TOKENIZER)
    trained = Library.from_str(TOKENIZER.to_json())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    assert not splits_before_white_space(Tokenizer(trained))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    other = Tokenizer(trained)
    assert not splits_before_white_space(other)
    assert ids(WordCache(other, U2), PROSE) == other.encode(PROSE)
    characters = Tokenizer.characters([PROSE])
    assert ids(WordCache(characters, U2), PROSE) == characters.encode(PROSE)
