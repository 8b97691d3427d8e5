"""Probes: which facts of the world stand in the residual stream, linearly, and in which layer.

    p(value | x) = softmax(W x + b), one W for each fact and layer, fitted by L-BFGS with a small
                   penalty on W, on stories that the model was trained on, tested on others

A probe that reads a fact proves that it can be read there, not that the model reads it. What it is
worth shows beside the controls: the most frequent value, the embeddings alone, an untrained model
of the same shape, shuffled values (Hewitt and Liang 2019), and the rule "the place named last".
Previous: circuit_view.py.  Next: probe_table.py.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from data.tiny_world.stories import Story
from data.tiny_world.world import PLACES
from gpt2 import GPT2Model
from tokenizer import Tokenizer
from visualization.ablation import residuals
from visualization.facts import (
    BELIEF_OF,
    FACTS,
    PERSONS,
    PLACE_OF,
    UNKNOWN,
    Mention,
    false_beliefs,
    find_mentions,
    outcomes,
    replay,
    told_by,
    truths,
)
from visualization.ideal import IdealReader, Told
from visualization.inspection import Report

SPOTS = (*PLACES, *PERSONS)
VALUES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(PLACE_OF, PLACES),
    "thing": SPOTS,
    "wisher": PERSONS,
    "fulfilled": ("no", "yes"),
    **dict.fromkeys(BELIEF_OF, (*SPOTS, UNKNOWN)),
}
N_TRAIN, N_TEST = 2000, 500  # stories
EVENTS_PER_STORY = 4  # that are drawn of each, of those between the wish and the evening
PENALTY = 1e-4
STEPS = 60  # of L-BFGS
BATCH = 32  # stories
Moment = Literal["event", "question"]  # the last token of an event; the one before a known place


@dataclass(frozen=True)
class Moments:
    """Moments of stories, each at a token, and what is so then."""

    tokens: list[list[int]]  # of each story
    story: Tensor  # (N,) the number of the story
    position: Tensor  # (N,) of the token
    values: dict[str, Tensor]  # (N,) the number of the value of each fact
    named_last: Tensor  # (N,) the number of the place that the text named last
    is_deceived: dict[str, Tensor]  # (N,) whether the person believes the thing where it is not

    def __len__(self) -> int:
        return len(self.story)


def moments_of(
    stories: Iterable[Story],
    tokenizer: Tokenizer,
    reader: IdealReader,
    context_length: int,
    moment: Moment = "event",
) -> Moments:
    """Returns some moments of each story; stories that do not fit into the context are left out."""
    rng, tokens, rows = random.Random(0), list[list[int]](), list[tuple[int, int]]()
    truth, last = list[dict[str, str]](), list[str]()
    for story in stories:
        ids = [tokenizer.end_of_text, *tokenizer.encode(story.text)]
        if len(ids) > context_length:
            continue
        number = len(tokens)
        tokens.append(ids)
        told = told_by(story, reader, 1)
        mentions = find_mentions(told, reader)
        after = truth_at(told, mentions, moment)
        for position in sorted(rng.sample(sorted(after), min(EVENTS_PER_STORY, len(after)))):
            rows.append((number, position))
            truth.append(after[position])
            last.append([m.place for m in mentions if m.first <= position][-1])
    story_of, position_of = torch.tensor(rows).unbind(dim=1)
    return Moments(
        tokens,
        story_of,
        position_of,
        {fact: torch.tensor([VALUES[fact].index(t[fact]) for t in truth]) for fact in FACTS},
        torch.tensor([PLACES.index(place) for place in last]),
        {
            fact: torch.tensor([person in false_beliefs(t) for t in truth])
            for fact, person in zip(BELIEF_OF, PERSONS, strict=True)
        },
    )


def truth_at(
    told: Sequence[Told], mentions: Sequence[Mention], moment: Moment
) -> dict[int, dict[str, str]]:
    """Returns the truth at the tokens of a story that are moments.

    They are the last tokens of events, or the one before the first place that the evening names.
    """
    if moment == "question":
        asked = next(mention.first for mention in mentions if mention.kind == "evening") - 1
        told_then = (state for span, state in replay(told) if span.event.kind == "evening")
        return {asked: truths(next(told_then))}
    return {span.last: truths(state) for span, state in outcomes(told) if state.stage == "middle"}


@torch.no_grad()
def streams(
    model: GPT2Model, moments: Moments, report: Report = lambda *_: None
) -> tuple[Tensor, ...]:
    """Returns the residual stream at the moments, before each layer and at the end: L+1 (N, C)."""
    shape = (len(moments), model.config.n_embd)
    found = tuple(torch.zeros(shape) for _ in range(model.config.n_layer + 1))
    by_length = sorted(range(len(moments.tokens)), key=lambda n: len(moments.tokens[n]))
    for first in range(0, len(by_length), BATCH):
        numbers = by_length[first : first + BATCH]
        width = len(moments.tokens[numbers[-1]])
        padded = [(moments.tokens[n] + [0] * width)[:width] for n in numbers]
        row_of = {number: row for row, number in enumerate(numbers)}
        here = torch.isin(moments.story, torch.tensor(numbers)).nonzero()[:, 0]
        rows = torch.tensor([row_of[int(n)] for n in moments.story[here]])
        for x, layer in zip(residuals(model, torch.tensor(padded)), found, strict=True):
            layer[here] = x[rows, moments.position[here]]
        report(first + len(numbers), len(by_length))
    return found


@dataclass(frozen=True)
class Probe:
    """Linear classifiers of all facts from one layer, as one matrix."""

    mean: Tensor  # (C,) of the stream, which is normalized first
    std: Tensor  # (C,)
    weight: Tensor  # (C, values of all facts)
    bias: Tensor  # (values of all facts,)

    def scores(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C) -> for each fact (N, values)."""
        logits = (x - self.mean) / self.std @ self.weight + self.bias
        return split_by_fact(logits)

    def guess(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C) -> for each fact (N,) the number of the likeliest value."""
        return {fact: scores.argmax(dim=1) for fact, scores in self.scores(x).items()}


def split_by_fact(logits: Tensor) -> dict[str, Tensor]:
    """Cuts (..., values of all facts) into the values of each fact."""
    pieces = logits.split([len(VALUES[fact]) for fact in FACTS], dim=-1)
    return dict(zip(FACTS, pieces, strict=True))


def fit(x: Tensor, values: dict[str, Tensor]) -> Probe:
    """Fits the probes of all facts to a stream, (N, C), and the values of the facts, (N,).

    The facts share nothing but the steps of L-BFGS, which minimizes the sum of their losses.
    """
    mean, std = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    normal = (x - mean) / std
    n_values = sum(len(VALUES[fact]) for fact in FACTS)
    weight = torch.zeros(x.size(1), n_values, requires_grad=True)
    bias = torch.zeros(n_values, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, max_eval=2 * STEPS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = split_by_fact(normal @ weight + bias)
        losses = [F.cross_entropy(scores[fact], values[fact]) for fact in FACTS]
        loss = torch.stack(losses).sum() + PENALTY * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return Probe(mean, std, weight.detach(), bias.detach())


def accuracy(guess: Tensor, truth: Tensor, where: Tensor | None = None) -> float | None:
    """Returns the share of right guesses, of those where it is asked for; None of none at all."""
    is_right = guess == truth if where is None else (guess == truth)[where]
    return float(is_right.float().mean()) if len(is_right) else None


def majority(train: Tensor, test: Tensor) -> Tensor:
    """Returns the most frequent training value as the guess of each test moment."""
    return train.bincount().argmax().expand_as(test)


def shuffled(values: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Returns the values in random order, so that they say nothing about the text."""
    generator = torch.Generator().manual_seed(seed)
    return {
        fact: numbers[torch.randperm(len(numbers), generator=generator)]
        for fact, numbers in values.items()
    }
