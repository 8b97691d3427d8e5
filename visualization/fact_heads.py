"""Fact heads: where each head looks when the next word is a fact that the story has stated.

    score(head) = mean over known places of the attention from the token before the noun to the
                  tokens of the nouns that stated it last
    chance      = mean of (number of these tokens) / (number of tokens that can be seen)

A known place is one that follows with certainty from what was told: the place of a person or of
the thing in the evening, an answer, what somebody tells or remembers.
Previous: ablation.py.  Next: patching.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from data.tiny_world.stories import corpus
from gpt2 import GPT2Model
from visualization.capture import capture
from visualization.facts import find_mentions, known_places
from visualization.ideal import IdealReader, reader_of
from visualization.inspection import Inspection
from visualization.regret import Layout, lay_out, windows_of

N_STORIES = 50


@dataclass(frozen=True)
class FactScores:
    """The mean attention of each head to what stated a known place, by kind of event."""

    scores: dict[str, Tensor]  # (L, H) for each kind, and for "all"
    chance: dict[str, float]
    n: dict[str, int]  # known places


def facts_of(inspection: Inspection) -> FactScores | None:
    """Returns the scores over N_STORIES validation stories; None without a built-in world."""
    reader, tokenizer = reader_of(inspection), inspection.tokenizer
    if reader is None:
        return None
    layout = lay_out(corpus(reader.language, 0, N_STORIES)[1], tokenizer, reader)
    found = fact_scores(inspection.model, layout, reader, tokenizer.end_of_text)
    return found if found.n else None


@torch.no_grad()
def fact_scores(
    model: GPT2Model, layout: Layout, reader: IdealReader, end_of_text: int
) -> FactScores:
    """Returns the scores of all heads over the known places of stories."""
    known = [m for told in layout.told for m in known_places(find_mentions(told, reader))]
    queries = {mention.first - 1: mention for mention in known}
    sums: dict[str, Tensor] = {}
    chance: dict[str, float] = {}
    n: dict[str, int] = {}
    for batch in windows_of(layout.stream, model.config.context_length, end_of_text):
        weights = torch.stack(capture(model, batch.tokens, ["weights"]).weights)  # (L, B, H, T, T)
        for row, (start, stop) in enumerate(batch.spans):
            for query in range(start, stop):
                mention = queries.get(query)
                if mention is None or mention.sources[0] < start:
                    continue
                seen = weights[:, row, :, query - start, [s - start for s in mention.sources]]
                for kind in (mention.kind, "all"):
                    sums[kind] = sums.get(kind, torch.zeros(())) + seen.sum(dim=-1)
                    chance[kind] = chance.get(kind, 0.0) + len(mention.sources) / (
                        query - start + 1
                    )
                    n[kind] = n.get(kind, 0) + 1
    return FactScores(
        {kind: sums[kind] / n[kind] for kind in n},
        {kind: chance[kind] / n[kind] for kind in n},
        n,
    )
