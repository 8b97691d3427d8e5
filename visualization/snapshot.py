"""Snapshot: what is measured on the weights of one step of a training, to be compared with others.

Previous: neurons.py.  Next: growth.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.tiny_world.stories import corpus
from gpt2 import GPT2Model
from visualization.capture import capture
from visualization.fact_heads import fact_scores
from visualization.heads import score_heads
from visualization.ideal import IdealReader, reader_of
from visualization.inspection import Inspection
from visualization.lens import lens_logits, stages
from visualization.probes import Moments, accuracy, fit, moments_of, streams
from visualization.regret import Layout, ideal_bits, lay_out, token_bits
from visualization.sample import padded, sample_of, stories_of
from visualization.surprise import bits_of

N_STORIES = 100  # on which bits and regret are measured
N_LENS = 10  # on which the lens is measured
N_FACTS = 40  # on which the attention to known places is
ON_RANDOM_TOKENS = ("previous", "duplicate", "induction")  # scores of heads
SCORES = (*ON_RANDOM_TOKENS, "fact")
N_FITTED, N_TESTED = 150, 100  # stories at whose questions probes are fitted, and tested
N_SEQUENCES = 8  # of random tokens, on which heads are scored


@dataclass(frozen=True)
class Texts:
    """What every snapshot reads."""

    tokens: Tensor  # (1, T): the text that the page shows
    layout: Layout | None  # of the stories
    ideal: np.ndarray  # bits of each of their tokens
    n_stories: int
    n_bytes: int  # of the stories, or of the text
    few: list[list[int]]  # for the lens
    end_of_text: int
    facts: Layout | None = None  # some of the stories, for the attention to known places
    reader: IdealReader | None = None
    moments: tuple[Moments, Moments] | None = None  # questions on which probes are fitted, tested

    @classmethod
    def of(cls, inspection: Inspection) -> "Texts":
        """Returns validation stories where the run knows a world, else the text alone."""
        tokenizer, tokens = inspection.tokenizer, inspection.trace.tokens
        reader = reader_of(inspection)
        if reader is None:
            parts = map(tokenizer.token_bytes, inspection.tokens[1:])
            n_bytes = max(1, sum(map(len, parts)))
            few = [inspection.tokens]
            return cls(tokens, None, np.zeros(0), 0, n_bytes, few, tokenizer.end_of_text)
        chosen = stories_of(inspection, N_STORIES)
        layout = lay_out(chosen, tokenizer, reader)
        return cls(
            tokens=tokens,
            layout=layout,
            ideal=ideal_bits(layout, reader),
            n_stories=len(chosen),
            n_bytes=layout.n_bytes,
            few=sample_of(inspection, N_LENS),
            end_of_text=tokenizer.end_of_text,
            facts=lay_out(chosen[:N_FACTS], tokenizer, reader),
            reader=reader,
            moments=questions(inspection, reader),
        )


def questions(inspection: Inspection, reader: IdealReader) -> tuple[Moments, Moments]:
    """Returns questions of training stories and of validation stories."""
    length = inspection.model.config.context_length
    train, test = (
        moments_of(some, inspection.tokenizer, reader, length, "question")
        for some in corpus(reader.language, N_FITTED, N_TESTED)
    )
    return train, test


@dataclass(frozen=True)
class Snapshot:
    """What was measured on one snapshot."""

    step: int
    bits: np.ndarray  # of each token of the stories, or of the text
    heads: dict[str, list[list[float]]]  # each score by layer and head
    chance: dict[str, float]
    depths: list[str]
    kl: list[float]
    settled: float
    attention: list[np.ndarray]  # of each layer, (H, T, T)
    probes: dict[str, float]  # of each fact: the share that the best layer's probe reads


def measure(step: int, model: GPT2Model, text: Texts) -> Snapshot:
    """Returns what the model of a snapshot knows."""
    seen = capture(model, text.tokens, ["weights"])
    if text.layout:
        bits = token_bits(model, text.layout, text.end_of_text)
    else:
        bits = np.array(bits_of(seen.logits[0], text.tokens[0]))
    heads, chance = head_growth(model, text)
    depths, kl, settled = lens_growth(model, text.few)
    attention = [weights[0].numpy() for weights in seen.weights]
    probes = probe_growth(model, *text.moments) if text.moments else {}
    return Snapshot(step, bits, heads, chance, depths, kl, settled, attention, probes)


def probe_growth(model: GPT2Model, train: Moments, test: Moments) -> dict[str, float]:
    """Returns for each fact the share of questions at which the best layer's probe reads it."""
    guesses = [
        fit(known, train.values).guess(asked)
        for known, asked in zip(streams(model, train), streams(model, test), strict=True)
    ]
    return {
        fact: round(max(accuracy(guess[fact], truth) or 0.0 for guess in guesses), 4)
        for fact, truth in test.values.items()
    }


def head_growth(
    model: GPT2Model, text: Texts
) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Returns each score by layer and head, and its chance level: none for too small a model."""
    scores, chance = random_scores(model, text.end_of_text)
    if text.facts and text.reader:
        found = fact_scores(model, text.facts, text.reader, text.end_of_text)
        if "all" in found.n:
            rows = found.scores["all"].tolist()
            scores["fact"] = [[round(score, 5) for score in row] for row in rows]
            chance["fact"] = round(found.chance["all"], 5)
    return scores, chance


def random_scores(
    model: GPT2Model, end_of_text: int
) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Returns the scores on random tokens that are repeated, and their chance levels."""
    table = score_heads(model, end_of_text, N_SEQUENCES)
    if table is None:
        return {}, {}
    layers, n_head = range(model.config.n_layer), model.config.n_head
    scores = {
        kind: [
            [getattr(row, kind) for row in table.rows[layer * n_head : (layer + 1) * n_head]]
            for layer in layers
        ]
        for kind in ON_RANDOM_TOKENS
    }
    return scores, {kind: getattr(table.chance, kind) for kind in ON_RANDOM_TOKENS}


@torch.no_grad()
def lens_growth(
    model: GPT2Model, texts: Sequence[Sequence[int]]
) -> tuple[list[str], list[float], float]:
    """Returns the depths, the mean KL from the end at each, and the mean depth that settles."""
    names, total, settled, n = list[str](), torch.zeros((), dtype=torch.float64), 0, 0
    for tokens, is_text in padded(texts):
        trace = capture(model, tokens, ["residual", "middle"])
        names = [name for name, _ in stages(trace)]
        end = trace.logits[is_text].double().log_softmax(-1)  # (N, V)
        sums, answers = list[Tensor](), list[Tensor]()
        for _, x in stages(trace):
            here = lens_logits(model, x[is_text]).double().log_softmax(-1)
            sums.append((end.exp() * (end - here)).sum() / math.log(2))
            answers.append(here.argmax(-1))
        agrees = torch.stack(answers) == answers[-1]  # (depths, N)
        n_agree = agrees.flip(0).long().cumprod(0).sum(0)  # depths from the end on
        settled += int((len(names) - n_agree).sum())
        total, n = total + torch.stack(sums), n + len(end)
    return names, [round(max(0.0, x), 4) for x in (total / n).tolist()], round(settled / n, 3)
