import io

import pytest
from rich.console import Console

from finetuning.chat_format import Dialogue, Message, encode_dialogue
from finetuning.preview import Counts, fit, preview, require_few_left_out
from tokenizer import END_OF_TEXT, Tokenizer

SYSTEM = Message("system", "Be kind.")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["Where is Max? In the hall. <|user|>\n <|assistant|>\n"] * 9, 300)


def turns(n_pairs: int, *, answer: str = "In the hall.") -> Dialogue:
    pairs = [
        (Message("user", f"{n}: Where is Max?"), Message("assistant", answer))
        for n in range(n_pairs)
    ]
    return tuple(message for pair in pairs for message in pair)


def n_tokens(dialogue: Dialogue, tokenizer: Tokenizer) -> int:
    return len(encode_dialogue(dialogue, tokenizer).tokens)


@pytest.mark.parametrize("system", [(), (SYSTEM,)])
@pytest.mark.parametrize("n_kept", range(1, 6))
def test_the_oldest_turns_leave_whole(tokenizer: Tokenizer, system: Dialogue, n_kept: int) -> None:
    dialogue = turns(5)
    kept = system + dialogue[-2 * n_kept :]
    context_length = n_tokens(kept, tokenizer) - 1  # the last token is only predicted
    fitted = fit(system + dialogue, tokenizer, context_length)
    assert fitted == encode_dialogue(kept, tokenizer)
    shorter = fit(system + dialogue, tokenizer, context_length - 1)
    fewer = system + dialogue[len(dialogue) - 2 * (n_kept - 1) :]
    assert shorter == (encode_dialogue(fewer, tokenizer) if n_kept > 1 else None)


def test_a_dialogue_that_loses_all_that_is_learned_is_left_out(tokenizer: Tokenizer) -> None:
    silent = (Message("user", "Why?"), Message("assistant", "No.", is_learned=False))
    dialogue = turns(1) + silent
    assert fit(dialogue, tokenizer, n_tokens(dialogue, tokenizer) - 1) is not None
    assert fit(dialogue, tokenizer, n_tokens(dialogue, tokenizer) - 2) is None


def shown(tokenizer: Tokenizer, **settings: object) -> str:
    text = io.TextIOWrapper(io.BytesIO(), encoding=str(settings.pop("encoding", "utf-8")))
    console = Console(file=text, width=200, highlight=False, markup=False, **settings)  # type: ignore[arg-type]
    preview(
        [(Message("user", "[b]\x1b[2J"), Message("assistant", "In."))], tokenizer, 99, 1, console
    )
    text.seek(0)
    return text.read()


def test_what_is_learned_stands_between_marks_where_there_is_no_colour(
    tokenizer: Tokenizer,
) -> None:
    lines = shown(tokenizer).splitlines()
    assert lines[0].startswith("dialogue 1: ") and lines[0].endswith("3 of them learned")
    assert lines[1:5] == [
        "<|user|>", f"[b]\\x1b[2J{END_OF_TEXT}", "<|assistant|>", f"▌In.{END_OF_TEXT}▐",
    ]  # fmt: skip
    assert f"[In.{END_OF_TEXT}]" in shown(tokenizer, encoding="latin-1")
    coloured = shown(tokenizer, force_terminal=True, color_system="truecolor")
    assert f"\x1b[1;32mIn.{END_OF_TEXT}\x1b[0m" in coloured and "▌" not in coloured


def test_the_counts_say_what_is_left_out_and_why(tokenizer: Tokenizer) -> None:
    short, long = turns(1), turns(1, answer="hall " * 99)
    context_length = n_tokens(turns(2), tokenizer) - 1
    dialogues = [short, turns(2), turns(3), long]
    counts = preview(dialogues, tokenizer, context_length, 0, Console(quiet=True))
    assert (counts.n_dialogues, counts.n_left_out, counts.n_shortened) == (4, 1, 1)
    assert counts.longest == context_length + 1
    assert counts.n_tokens == 2 * counts.longest + n_tokens(short, tokenizer)
    lines = counts.lines(context_length)
    assert lines[1].startswith("without their oldest turns: 1, for they are longer than")
    assert lines[2].startswith("left out: 1, for even without older turns they are longer than")


@pytest.mark.parametrize(
    "n_left_out, leave_out_long, passes",
    [(0, False, True), (1, False, True), (2, False, False), (99, True, True), (100, True, False)],
)
def test_more_than_one_percent_is_left_out_on_request_only(
    n_left_out: int, *, leave_out_long: bool, passes: bool
) -> None:
    counts = Counts(n_dialogues=100, n_left_out=n_left_out)
    if passes:
        require_few_left_out(counts, 64, leave_out_long=leave_out_long)
        return
    with pytest.raises(ValueError, match=f"{n_left_out} of 100 dialogues do not fit"):
        require_few_left_out(counts, 64, leave_out_long=leave_out_long)
