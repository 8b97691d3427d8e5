"""Stories of the built-in worlds, and vocabularies of several sizes for them."""

from functools import cache
from itertools import islice

from data.tiny_world.stories import LANGUAGES, Story, stories
from tokenizer import Tokenizer


@cache
def sample(world: str, n: int) -> list[Story]:
    """Returns the first validation stories of a world."""
    return list(islice(stories(LANGUAGES[world], "validation"), n))


@cache
def vocabulary(world: str, kind: str) -> Tokenizer:
    """Returns a tokenizer for a world: "char", or BPE of so many tokens.

    Of 280 tokens most words have several, and Russian letters are cut into bytes.
    """
    if kind == "char":
        letters = "".join(map(chr, [*range(0x20, 0x7F), *range(0x400, 0x460)]))
        return Tokenizer.characters([letters, *(story.text for story in sample(world, 40))])
    return Tokenizer.train((story.text for story in sample(world, 40)), int(kind))
