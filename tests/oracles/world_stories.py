"""Stories of the built-in worlds, vocabularies of several sizes for them, and a small model."""

from functools import cache
from itertools import islice

import torch

from cfg_gpt2 import GPT2Config
from data.tiny_world.stories import LANGUAGES, Story, stories
from gpt2 import GPT2Model
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


def small_model(tokenizer: Tokenizer) -> GPT2Model:
    """Returns a seeded random model that reads the tokens of a world."""
    torch.manual_seed(1)
    sizes = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        context_length=200,
        n_layer=2,
        n_head=2,
        n_embd=16,
        dropout=0.0,
    )
    return GPT2Model(sizes).eval()
