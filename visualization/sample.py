"""Texts to measure a model on: validation stories where it knows a world, else the text it read.

Previous: word_classes.py.  Next: embeddings.py.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from data.sources import TinyWorldSource
from data.tiny_world.stories import LANGUAGES, Story, corpus
from visualization.inspection import Inspection

ROWS = 10  # texts that are read at a time


def sample_of(inspection: Inspection, n: int) -> list[list[int]]:
    """Returns the tokens of n validation stories that fit the context, or of the text alone."""
    if not inspection.world:
        return [inspection.tokens]
    length, end = inspection.model.config.context_length, inspection.tokenizer.end_of_text
    encode = inspection.tokenizer.encode
    texts = [[end, *encode(story.text), end] for story in stories_of(inspection, n)]
    return [text for text in texts if len(text) <= length] or [inspection.tokens]


def stories_of(inspection: Inspection, n: int) -> list[Story]:
    """Returns the first n validation stories of the world of a run."""
    data = inspection.config.data
    n = min(n, TinyWorldSource(data.path[0], data).n_validation)
    return corpus(LANGUAGES[data.path[0]], 0, n)[1]


def padded(texts: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields texts, some at a time, as (B, T) tokens, and where they are texts, (B, T).

    The rest of a row, behind its text, is token 0, which no position of the text can see.
    """
    for start in range(0, len(texts), ROWS):
        part = texts[start : start + ROWS]
        longest = max(map(len, part))
        tokens = torch.zeros(len(part), longest, dtype=torch.long)
        for row, text in zip(tokens, part, strict=True):
            row[: len(text)] = torch.tensor(text)
        lengths = torch.tensor([len(text) for text in part])
        yield tokens, torch.arange(longest) < lengths[:, None]
