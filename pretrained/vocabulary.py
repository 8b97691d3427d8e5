"""A tokenizer.json as byte-level BPE, the only form that some programs read.

Hugging Face's older tools and llama.cpp read byte-level BPE only: tokens written in GPT-2's
alphabet, in which each byte has a visible character, and merges in their order. A tokenizer of
characters has such a form too: the bytes of each character are merged from left to right, and
nothing else is merged. llama.cpp accepts it; Hugging Face's library needs a token for every byte.
Previous: import_command.py.  Next: hugging_face.py.
"""

import json
from dataclasses import dataclass

from tokenizer import BYTE_OF_CHARACTER, Tokenizer

CHARACTER_OF_BYTE = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
Pair = tuple[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary in byte-level BPE; tokens[id] is None where an id has no token."""

    tokens: list[str | None]
    merges: list[Pair]
    special: set[int]  # ids of added tokens that no text becomes, the end of text among them
    literal: set[int]  # ids of added tokens that a text becomes before it is cut into words
    splits_as_gpt2: bool  # whether words are those of GPT-2's pattern

    def token(self, id: int) -> str | None:
        """Returns the token of an id, None where it has none."""
        return self.tokens[id] if id < len(self.tokens) else None

    def has_all_parts(self) -> bool:
        """Tells whether both parts of every merge are tokens, as in every trained BPE."""
        tokens = set(self.tokens)
        return all(part in tokens for pair in self.merges for part in pair)


def to_bpe(tokenizer: Tokenizer) -> Vocabulary:
    """Returns a tokenizer as byte-level BPE, with the same ids for every text it can encode."""
    description = json.loads(tokenizer.to_json())
    model, added = description["model"], description["added_tokens"]
    ids: dict[str, int] = model["vocab"]
    if model["type"] == "BPE":
        merges = [parse_merge(merge) for merge in model["merges"]]
        is_gpt2 = splits_as_gpt2(description["pre_tokenizer"]) and not description["normalizer"]
    else:
        marks = {token["content"] for token in added}
        ids = {character: id for character, id in ids.items() if character not in marks}
        merges = without_duplicates([pair for c in ids for pair in character_merges(c)])
        ids = {to_byte_alphabet(character): id for character, id in ids.items()}
        is_gpt2 = True  # no merge reaches beyond a character
    tokens: list[str | None] = [None] * tokenizer.vocab_size
    for token, id in [*ids.items(), *((token["content"], token["id"]) for token in added)]:
        tokens[id] = token
    special = {token["id"] for token in added if token["special"]}
    literal = {token["id"] for token in added} - special
    return Vocabulary(tokens, merges, special, literal, is_gpt2)


def splits_as_gpt2(splitter: dict | None) -> bool:
    """Tells whether the pre_tokenizer of a tokenizer.json cuts a text into words as GPT-2 does."""
    parts = [splitter] if splitter else []
    if splitter and isinstance(splitter.get("pretokenizers"), list):
        parts = splitter["pretokenizers"]
    kinds = [(part["type"], part.get("use_regex") is not False) for part in parts]
    return kinds == [("ByteLevel", True)]


def parse_merge(merge: str | list[str]) -> Pair:
    """Returns the two parts of a merge, which older files write as one string, "a b"."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def to_byte_alphabet(text: str) -> str:
    """Returns a text in GPT-2's alphabet, one character for each of its bytes."""
    return "".join(CHARACTER_OF_BYTE[byte] for byte in text.encode())


def character_merges(character: str) -> list[Pair]:
    """Returns the merges that join the bytes of one character, from left to right."""
    spelled = to_byte_alphabet(character)
    return [(spelled[:i], spelled[i]) for i in range(1, len(spelled))]


def without_duplicates(pairs: list[Pair]) -> list[Pair]:
    """Returns each pair once, in the order of its first occurrence."""
    return list(dict.fromkeys(pairs))
