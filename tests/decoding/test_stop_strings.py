"""stop_strings.py against a plain search in the finished text."""

import re
from itertools import cycle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decoding.stop_strings import StopStringBuffer
from tokenizer import Tokenizer

# Letters that are often alike make stop strings overlap; the others have 2, 3 and 4 bytes.
ALPHABET = "aabbб🦊я—"
LEARNED = "ab aab бя —🦊 aб яя ba bb 🦊🦊 бб —a " * 30
BPE = Tokenizer.train([LEARNED], vocab_size=290)
CHARACTERS = Tokenizer.characters([LEARNED])
STOPS = st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=4)
N_BYTES = 256


def plainly(text: str, stop: list[str]) -> tuple[str, str | None]:
    """The end by definition: what is complete first; of those complete together, the longest."""
    places = [
        (match.start() + len(s), match.start(), s)
        for s in stop
        for match in re.finditer(f"(?={re.escape(s)})", text)
    ]
    if not places:
        return text, None
    _, start, found = min(places)
    return text[:start], found


def streamed(
    tokenizer: Tokenizer, tokens: list[int], stop: list[str]
) -> tuple[list[str], str | None]:
    buffer = StopStringBuffer(tokenizer.decode_stream(), tuple(stop))
    pieces = [buffer.step(token) for token in tokens]
    return [*pieces, buffer.finish()], buffer.matched


def cut_somehow(text: str, cuts: list[bool]) -> list[int]:
    """Tokens of the text: some words as the tokenizer has them, some byte by byte."""
    of_byte = {BPE.token_bytes(i): i for i in range(BPE.vocab_size) if len(BPE.token_bytes(i)) == 1}
    tokens: list[int] = []
    for token, whole in zip(BPE.encode(text), cycle(cuts), strict=False):
        tokens += [token] if whole else [of_byte[bytes([b])] for b in BPE.token_bytes(token)]
    return tokens


def agrees(text: str, cuts: list[bool], stop: list[str]) -> None:
    tokens = cut_somehow(text, cuts)
    shown, found = streamed(BPE, tokens, stop)
    whole = b"".join(map(BPE.token_bytes, tokens)).decode()
    wanted = plainly(whole, stop)
    assert ("".join(shown), found) == wanted
    so_far = ""
    for piece in shown:  # never a part of what ends the text, never half a character
        so_far += piece
        assert wanted[0].startswith(so_far)
    assert "\ufffd" not in so_far


TEXTS = st.text(ALPHABET, max_size=30)
CUTS = st.lists(st.booleans(), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(TEXTS, CUTS, STOPS)
def test_stop_strings_are_found_as_by_a_search_in_the_whole_text(
    text: str, cuts: list[bool], stop: list[str]
) -> None:
    agrees(text, cuts, stop)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, CUTS, STOPS)
def test_ten_thousand_stop_strings(text: str, cuts: list[bool], stop: list[str]) -> None:
    agrees(text, cuts, stop)


@settings(max_examples=200, deadline=None)
@given(st.text("ab—🦊", max_size=30), STOPS)
def test_characters_as_tokens_end_at_the_same_place(text: str, stop: list[str]) -> None:
    shown, found = streamed(CHARACTERS, CHARACTERS.encode(text), stop)
    assert ("".join(shown), found) == plainly(text, stop)


def pieces(text: str, *stop: str) -> list[str]:
    """What is shown after each character, and at the end."""
    return streamed(CHARACTERS, CHARACTERS.encode(text), list(stop))[0]


def test_text_is_shown_as_soon_as_no_stop_string_can_begin_in_it() -> None:
    assert pieces("aba", "bb") == ["a", "", "ba", ""]
    assert pieces("abb", "bb") == ["a", "", "", ""]
    assert pieces("ab", "bb") == ["a", "", "b"]  # held back until the end
    assert pieces("aab", "aab", "ab") == ["", "", "", ""]  # complete together: the longer one
    assert pieces("aab", "aaba", "a") == ["", "", "", ""]  # complete first: the shorter one
    assert pieces("яя", "ббб") == ["я", "я", ""]


def test_nothing_is_shown_behind_the_end() -> None:
    buffer = StopStringBuffer(CHARACTERS.decode_stream(), ("b",))
    assert [buffer.step(token) for token in CHARACTERS.encode("abab")] == ["a", "", "", ""]
    assert (buffer.finish(), buffer.matched) == ("", "b")


def test_half_a_character_at_the_end_is_left_out() -> None:
    fox = "🦊".encode()
    of_byte = {BPE.token_bytes(i): i for i in range(BPE.vocab_size) if len(BPE.token_bytes(i)) == 1}
    tokens = [of_byte[bytes([b])] for b in "я".encode() + fox[:3]]
    assert streamed(BPE, tokens, []) == (["", "я", "", "", "", ""], None)
