"""What is in a tokenizer.json, for programs that want it in another form.

Hugging Face's older tools and llama.cpp know byte-level BPE only: tokens written in GPT-2's
alphabet, where each byte has a visible character, and merges in their order. One id a character
can be said in these words too: a character's bytes are merged from the left to the right, and
nothing else is. llama.cpp takes that; Hugging Face's library wants a token for every single byte.
Previous: import_command.py.  Next: hugging_face.py.
"""

import json
from dataclasses import dataclass

from tokenizer import BYTE_OF_CHARACTER, END_OF_TEXT, Tokenizer

CHARACTER_OF_BYTE = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
Pair = tuple[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """Byte-level BPE; tokens[id] is None where an id has no token."""

    tokens: list[str | None]
    merges: list[Pair]
    end_of_text: int

    def has_all_parts(self) -> bool:
        """Whether whatever is merged is a token itself, as in every trained BPE."""
        tokens = set(self.tokens)
        return all(part in tokens for pair in self.merges for part in pair)


def bpe_of(tokenizer: Tokenizer) -> Vocabulary:
    """The tokenizer as byte-level BPE, with the same ids for every text that it can write."""
    description = json.loads(tokenizer.to_json())
    model, added = description["model"], description["added_tokens"]
    ids: dict[str, int] = model["vocab"]
    if model["type"] == "BPE":
        merges = [as_pair(merge) for merge in model["merges"]]
    else:
        shown = {token: token if token == END_OF_TEXT else in_bytes(token) for token in ids}
        merges = distinct([pair for token in ids if token != END_OF_TEXT for pair in joins(token)])
        ids = {shown[token]: id for token, id in ids.items()}
    tokens: list[str | None] = [None] * tokenizer.vocab_size
    for token, id in [*ids.items(), *((token["content"], token["id"]) for token in added)]:
        tokens[id] = token
    return Vocabulary(tokens, merges, tokenizer.end_of_text)


def as_pair(merge: str | list[str]) -> Pair:
    """Older files write a merge as "a b"."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def in_bytes(text: str) -> str:
    """The text in GPT-2's alphabet."""
    return "".join(CHARACTER_OF_BYTE[byte] for byte in text.encode())


def joins(character: str) -> list[Pair]:
    """The merges that put the bytes of one character together."""
    shown = in_bytes(character)
    return [(shown[:i], shown[i]) for i in range(1, len(shown))]


def distinct(pairs: list[Pair]) -> list[Pair]:
    """Each once, in the order of the first."""
    return list(dict.fromkeys(pairs))
