"""The prompt of the command that `train` and `import` suggest next: one that the run can read.

Previous: resume.py.  Next: train.py.
"""

import unicodedata
from collections.abc import Iterable

from tokenizer import Tokenizer, UnseenCharacter

ENGLISH = "Once upon a time"
N_TOKENS = 3000  # of a vocabulary that are looked at: the first are the most frequent
LONGEST = 20  # characters of a suggestion; scripts without spaces have no shorter words


def prompt_from_text(text: str) -> str | None:
    """Returns the first word of a text that begins with a capital, else its first word.

    None where there is no word.
    """
    return choose_word(text.split())


def prompt_for(tokenizer: Tokenizer) -> str | None:
    """Returns a prompt in the letters of a tokenizer, None where it has none."""
    tokens = [tokenizer.decode([id]) for id in known_ids(tokenizer)[:N_TOKENS]]
    letters = "".join(tokens)
    n_english = sum(character.isascii() and character.isalpha() for character in letters)
    is_english = 2 * n_english > sum(map(str.isalpha, letters))
    if is_english and can_encode(tokenizer, ENGLISH):
        return ENGLISH
    words = [token.strip() for token in tokens if tokenizer.is_by_character or len(token) > 2]
    return choose_word(words)


def known_ids(tokenizer: Tokenizer) -> list[int]:
    """Returns the ids of a tokenizer's ordinary tokens."""
    special = {*tokenizer.special_tokens.values()}
    missing = special.union(tokenizer.ids_without_token(tokenizer.vocab_size))
    return [id for id in range(tokenizer.vocab_size) if id not in missing]


def can_encode(tokenizer: Tokenizer, text: str) -> bool:
    """Tells whether a tokenizer has all characters of a text; one of bytes has."""
    try:
        tokenizer.encode(text)
    except UnseenCharacter:
        return False
    return True


def choose_word(words: Iterable[str]) -> str | None:
    """Returns the first word that begins with a capital letter, else the first, None without."""
    whole = (word for word in words if word.isprintable() and "\ufffd" not in word)
    usable = [word for word in map(without_marks, whole) if word]
    return next((word for word in usable if word[0].isupper()), next(iter(usable), None))


def without_marks(word: str) -> str:
    """Returns a word from its first letter or digit on, without punctuation at its end."""
    is_letter = [unicodedata.category(character)[0] in "LN" for character in word]
    if True not in is_letter:
        return ""
    word = word[is_letter.index(True) :]
    while unicodedata.category(word[-1])[0] not in "LNM":
        word = word[:-1]
    return word[:LONGEST]
