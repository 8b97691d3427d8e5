"""Steering: does the model use what the probe reads? The probe's direction is added to the stream.

    x_t + alpha |x| (w_b - w_a) / |w_b - w_a|      at the question, t

The story is cut in the evening, before the place of the first person, which is a. It counts how
often the model then names b, and how often still a. Control: random directions of the same length.
Previous: probe_table.py.  Next: probes_view.py.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.tiny_world.stories import Story
from data.tiny_world.world import PLACES
from gpt2 import GPT2Model
from tokenizer import Tokenizer
from visualization.ablation import residuals, run_from
from visualization.facts import PHRASES, PLACE_OF, find_mentions, told_by
from visualization.ideal import IdealReader
from visualization.probes import Probe, split_by_fact

N_STORIES = 100
ALPHAS = (0.25, 0.5, 1.0, 2.0)  # lengths of what is added, in mean lengths of the stream


@dataclass(frozen=True)
class Cases:
    """Stories up to a place that is known, and another place for each."""

    tokens: Tensor  # (B, T)
    last: Tensor  # (B,) the position of the question
    own: Tensor  # (B,) the number of the place that is right
    target: Tensor  # (B,) of another place with the same preposition
    nouns: Tensor  # (places,) the first token of each place's noun, as the evening has it


@dataclass(frozen=True)
class SteeringRow:
    """How often the model names the target, and its own place; the same in random directions."""

    layer: int
    alpha: float
    target: float
    own: float
    random_target: float
    random_own: float


def cases_of(
    stories: Iterable[Story], tokenizer: Tokenizer, reader: IdealReader, context_length: int
) -> Cases:
    """Returns the first N_STORIES stories that fit into the context."""
    at, rng = PHRASES[reader.language.name][0], random.Random(0)
    nouns = [reader.tokens_of(f" {at[place].split(' ')[-1]}")[0] for place in PLACES]
    rows, places = list[list[int]](), list[tuple[int, int]]()
    for story in stories:
        mention = next(
            m for m in find_mentions(told_by(story, reader, 1), reader) if m.kind == "evening"
        )
        same = [p for p in PLACES if at[p].split(" ")[0] == at[mention.place].split(" ")[0]]
        own = nouns[PLACES.index(mention.place)]
        others = [p for p in same if nouns[PLACES.index(p)] != own]
        if mention.first > context_length or not others:
            continue
        tokens = [tokenizer.end_of_text, *tokenizer.encode(story.text)]
        rows.append(tokens[: mention.first])
        places.append((PLACES.index(mention.place), PLACES.index(rng.choice(others))))
        if len(rows) == N_STORIES:
            break
    width = max(map(len, rows))
    own, target = torch.tensor(places).unbind(dim=1)
    return Cases(
        tokens=torch.tensor([row + [tokenizer.end_of_text] * (width - len(row)) for row in rows]),
        last=torch.tensor([len(row) - 1 for row in rows]),
        own=own,
        target=target,
        nouns=torch.tensor(nouns),
    )


def directions(probe: Probe, cases: Cases) -> Tensor:
    """Returns for each case the unit vector along which the probe goes from a to b, (B, C)."""
    weight = split_by_fact(probe.weight / probe.std[:, None])[PLACE_OF[0]]  # (C, places)
    found = (weight[:, cases.target] - weight[:, cases.own]).T
    return found / found.norm(dim=1, keepdim=True)


@torch.no_grad()
def steer(model: GPT2Model, probes: Sequence[Probe], cases: Cases, layer: int) -> list[SteeringRow]:
    """Returns how often the model names either place, for each of ALPHAS, at one layer."""
    x = residuals(model, cases.tokens)[layer]
    rows, here = torch.arange(len(x)), cases.last
    length = x[rows, here].norm(dim=1).mean()
    along = directions(probes[layer], cases)
    generator = torch.Generator().manual_seed(0)
    at_random = torch.randn(along.shape, generator=generator)
    at_random = at_random / at_random.norm(dim=1, keepdim=True)

    def named(direction: Tensor, alpha: float) -> Tensor:
        steered = x.clone()
        steered[rows, here] += alpha * length * direction
        logits = run_from(model, layer, steered)[rows, here]
        return cases.nouns[logits[:, cases.nouns].argmax(dim=1)]

    found = list[SteeringRow]()
    for alpha in ALPHAS:
        steered, other = named(along, alpha), named(at_random, alpha)
        shares = [
            float((guess == cases.nouns[place]).float().mean())
            for guess in (steered, other)
            for place in (cases.target, cases.own)
        ]
        found.append(SteeringRow(layer, alpha, *shares))
    return found
