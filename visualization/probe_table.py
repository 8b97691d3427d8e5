"""The table of the probes: each fact, layer by layer, beside every control.

    trained - untrained     what training has put there
    hard subset             moments at which the place that was named last is not the right one
    deceived                moments at which somebody believes the thing where it is not

Previous: probes.py.  Next: steering.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from data.tiny_world.world import PLACES
from gpt2 import GPT2Model
from visualization.facts import BELIEF_OF, FACTS
from visualization.inspection import Report
from visualization.probes import (
    VALUES,
    Moments,
    Probe,
    accuracy,
    fit,
    majority,
    shuffled,
    streams,
)

Streams = tuple[Tensor, ...]  # of each layer and behind the last one, (N, C)


@dataclass(frozen=True)
class Subset:
    """The accuracies on some of the moments."""

    n: int
    probe: float | None
    untrained: float | None
    majority: float | None
    says_truth: float | None = None  # of a belief: how often the probe gives where the thing is


@dataclass(frozen=True)
class FactRow:
    """How well one fact is read, as shares of right guesses; `layers` has one more than layers."""

    fact: str
    layers: list[float]  # before each layer, and behind the last; the first: embeddings alone
    best: int  # the layer with the highest share
    untrained: float  # the best layer of an untrained model
    shuffled: float  # at `best`, with shuffled values
    majority: float
    named_last: float | None  # the rule; None: the fact is no place
    hard: Subset | None
    deceived: Subset | None


@dataclass(frozen=True)
class ProbeTable:
    """The rows of all facts, and the numbers of moments."""

    rows: list[FactRow]
    n_train: int
    n_test: int


def untrained_like(model: GPT2Model, seed: int = 0) -> GPT2Model:
    """Returns a model of the same shape with random weights."""
    other = GPT2Model(model.config).eval()
    other.init_weights(torch.Generator().manual_seed(seed))
    return other


def measure_probes(
    model: GPT2Model, train: Moments, test: Moments, report: Report = lambda *_: None
) -> tuple[ProbeTable, list[Probe]]:
    """Fits probes for all layers and controls; returns the table and the model's own probes."""
    n_streams = model.config.n_layer + 1
    done, total = 0, 2 * n_streams + 3

    def step() -> None:
        nonlocal done
        done += 1
        report(done, total)

    def fitted(known: Streams, asked: Streams) -> tuple[list[Probe], list[dict[str, Tensor]]]:
        probes = list[Probe]()
        for x in known:
            probes.append(fit(x, train.values))
            step()
        return probes, [probe.guess(x) for probe, x in zip(probes, asked, strict=True)]

    def read(of: GPT2Model) -> tuple[Streams, Streams]:
        found = streams(of, train), streams(of, test)
        step()
        return found

    _, without_training = fitted(*read(untrained_like(model)))
    known, asked = read(model)
    probes, guesses = fitted(known, asked)
    best = [best_of(guesses, test, fact) for fact in FACTS]
    layer = max(set(best), key=best.count)
    by_chance = fit(known[layer], shuffled(train.values)).guess(asked[layer])
    step()
    rows = [
        fact_row(fact, train, test, [guess[fact] for guess in guesses],
                 without_training[best_of(without_training, test, fact)][fact], by_chance[fact])
        for fact in FACTS
    ]  # fmt: skip
    return ProbeTable(rows, len(train), len(test)), probes


def best_of(guesses: list[dict[str, Tensor]], test: Moments, fact: str) -> int:
    """Returns the layer whose probe is right most often."""
    shares = [accuracy(guess[fact], test.values[fact]) or 0.0 for guess in guesses]
    return max(range(len(shares)), key=shares.__getitem__)


def fact_row(
    fact: str,
    train: Moments,
    test: Moments,
    guesses: list[Tensor],
    untrained: Tensor,
    by_chance: Tensor,
) -> FactRow:
    """Returns the accuracies of a fact, given the guesses of each layer and of the controls."""
    truth = test.values[fact]
    shares = [accuracy(guess, truth) or 0.0 for guess in guesses]
    best = max(range(len(shares)), key=shares.__getitem__)
    frequent = majority(train.values[fact], truth)
    is_place = VALUES[fact][: len(PLACES)] == PLACES

    def subset(where: Tensor, says_truth: float | None = None) -> Subset:
        return Subset(
            n=int(where.sum()),
            probe=accuracy(guesses[best], truth, where),
            untrained=accuracy(untrained, truth, where),
            majority=accuracy(frequent, truth, where),
            says_truth=says_truth,
        )

    hard = subset(test.named_last != truth) if is_place else None
    deceived = None
    if fact in BELIEF_OF:
        where = test.is_deceived[fact]
        deceived = subset(where, accuracy(guesses[best], test.values["thing"], where))
    return FactRow(
        fact=fact,
        layers=shares,
        best=best,
        untrained=accuracy(untrained, truth) or 0.0,
        shuffled=accuracy(by_chance, truth) or 0.0,
        majority=accuracy(frequent, truth) or 0.0,
        named_last=accuracy(test.named_last, truth) if is_place else None,
        hard=hard,
        deceived=deceived,
    )
