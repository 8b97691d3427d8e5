"""The prompt of the next command can be read by the run, in every script."""

import pytest

from commands.suggest_prompt import LONGEST, prompt_for, prompt_from_text
from tokenizer import Tokenizer

ENGLISH = "The cat sat on the mat, and it slept. " * 20
RUSSIAN = "Мама мыла раму, а Кот спал — «тихо». " * 20

WORDS = {
    "«тихо» спал Кот": "Кот",
    "one two three": "one",
    "-- 'Tis, said he": "Tis",
    "महाराज ने कहा।": "महाराज",
    "狐狸问鼓在哪里" * 9: "狐狸问鼓在哪里" * 2 + "狐狸问鼓在哪",
    "кто-то\nпришёл": "кто-то",
    "\ufffdx \x1b[2Jy don't": "don't",
    "12 monkeys": "12",
    "Éa": "Éa",
    "…!? —": None,
    "": None,
}


@pytest.mark.parametrize(("text", "word"), WORDS.items())
def test_a_prompt_is_the_first_word_of_a_text_with_a_capital_or_the_first(
    text: str, word: str | None
) -> None:
    assert prompt_from_text(text) == word
    assert len(word or "") <= LONGEST


def test_an_imported_run_gets_a_prompt_in_its_own_letters() -> None:
    assert prompt_for(Tokenizer.train([ENGLISH], 300)) == "Once upon a time"
    for tokenizer in (
        Tokenizer.train([RUSSIAN], 330),
        Tokenizer.characters([RUSSIAN]),
        Tokenizer.characters(["abc"]),
        Tokenizer.characters(["狐狸"]),
        Tokenizer.characters([ENGLISH + "Once upon"]),
    ):
        prompt = prompt_for(tokenizer)
        assert prompt and tokenizer.encode(prompt)
        assert prompt.strip() == prompt
    assert prompt_for(Tokenizer.characters([RUSSIAN])) == "К"
    assert prompt_for(Tokenizer.characters([".,;"])) is None
