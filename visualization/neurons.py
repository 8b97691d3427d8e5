"""Neurons: the one whose activation tells best whether something is true, and where it fires most.

    AUC = P(activation where it is true > activation where it is not)      0.5: tells nothing

Among thousands of neurons some look good by chance. So the best one is found on one half of the
text and measured on the other, and the same search is made with the answers shuffled. A neuron that
tells a fact need not be what the model uses; that takes an edit.
Previous: predicates.py.  Next: snapshot.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor

from training.progress import show_table
from visualization.capture import capture
from visualization.ideal import reader_of
from visualization.inspection import Inspection, View, one_line
from visualization.predicates import TextRead, predicates_for
from visualization.sample import padded, sample_of

N_TEXTS = 60  # stories, half of them to find and half to measure
N_SHUFFLES = 5
N_CONTEXTS, BEFORE, AFTER = 6, 8, 2  # contexts of a neuron; tokens of each around the position
LEAST = 5  # positions of either answer in each half, below which nothing is measured


@dataclass(frozen=True)
class Found:
    """The neuron that tells best whether a predicate is true."""

    predicate: str
    share: float  # of the positions where it is true
    layer: int
    neuron: int
    sign: int  # -1: it is low where the predicate is true
    auc_found: float  # on the half on which it was chosen
    auc: float  # on the other half
    shuffled_found: float  # the same two with shuffled answers
    shuffled: float


@dataclass(frozen=True)
class Context:
    """A place in a text where a neuron is at its highest, or lowest."""

    ids: list[int]
    at: int  # which of them
    value: float


@dataclass(frozen=True)
class Neurons:
    """The best neurons of all predicates, with the contexts of each by "layer.neuron"."""

    n_texts: int
    n_positions: int
    n_neurons: int
    found: list[Found]
    contexts: dict[str, list[Context]]


def neurons_of(inspection: Inspection) -> Neurons:
    """Returns the best neurons for the predicates of the run's text."""
    texts = sample_of(inspection, N_TEXTS)
    activations = activations_of(inspection, texts)
    reader, tokenizer = reader_of(inspection), inspection.tokenizer
    reads = [TextRead(tokens, tokenizer, inspection.world, reader) for tokens in texts]
    predicates = predicates_for(inspection.world)
    answers = {
        name: torch.tensor([answer for text in reads for answer in predicate(text)])
        for name, predicate in predicates.items()
    }
    found = search(activations, answers, middle_of(texts))
    places = [(text, t) for text in texts for t in range(len(text))]
    return Neurons(
        n_texts=len(texts),
        n_positions=len(places),
        n_neurons=sum(layer.size(1) for layer in activations),
        found=found,
        contexts={
            f"{best.layer}.{best.neuron}": contexts_of(
                activations[best.layer][:, best.neuron], best.sign, places
            )
            for best in found
        },
    )


def activations_of(inspection: Inspection, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    """Returns the neurons of each layer at all positions of some texts, (N, F)."""
    parts: list[list[Tensor]] = [[] for _ in range(inspection.model.config.n_layer)]
    for tokens, is_text in padded(texts):
        trace = capture(inspection.model, tokens, ["neurons"])
        for part, neurons in zip(parts, trace.neurons, strict=True):
            part.append(neurons[is_text])
    return [torch.cat(part) for part in parts]


def middle_of(texts: Sequence[Sequence[int]]) -> int:
    """Returns how many positions the first half of the texts has, or of the only text."""
    if len(texts) == 1:
        return len(texts[0]) // 2
    return sum(map(len, texts[: len(texts) // 2]))


def search(activations: list[Tensor], answers: dict[str, Tensor], middle: int) -> list[Found]:
    """Returns the best neuron for each predicate with enough positions of either answer."""
    names = [name for name, answer in answers.items() if is_mixed(answer, middle)]
    if not names:
        return []
    asked = torch.stack([answers[name] for name in names], dim=1)  # (N, P)
    generator = torch.Generator().manual_seed(0)
    shuffled = [
        torch.cat([shuffle(half, generator) for half in (asked[:middle], asked[middle:])])
        for _ in range(N_SHUFFLES)
    ]
    columns = torch.cat([asked, *shuffled], dim=1)  # (N, P (1 + N_SHUFFLES))
    layers, neurons, signs, on_one = best_of(activations, columns, middle)
    chosen = torch.stack(
        [
            activations[layer][middle:, neuron]
            for layer, neuron in zip(layers.tolist(), neurons.tolist(), strict=True)
        ],
        dim=1,
    )
    on_other = auc(ranks(chosen), columns[middle:]).diagonal()  # of each column its own neuron
    on_other = torch.where(signs > 0, on_other, 1 - on_other)
    tables = [x.view(1 + N_SHUFFLES, len(names)) for x in (on_one, on_other)]
    (one, *by_chance), (other, *other_by_chance) = (list(table) for table in tables)
    chance = [torch.stack(rows).mean(dim=0) for rows in (by_chance, other_by_chance)]
    return [
        Found(
            predicate=name,
            share=round(float(asked[:, n].double().mean()), 4),
            layer=int(layers[n]),
            neuron=int(neurons[n]),
            sign=int(signs[n]),
            auc_found=round(float(one[n]), 4),
            auc=round(float(other[n]), 4),
            shuffled_found=round(float(chance[0][n]), 4),
            shuffled=round(float(chance[1][n]), 4),
        )
        for n, name in enumerate(names)
    ]


def is_mixed(answer: Tensor, middle: int) -> bool:
    """Returns whether both halves have enough positions of either answer."""
    halves = (answer[:middle], answer[middle:])
    return all(LEAST <= int(half.sum()) <= len(half) - LEAST for half in halves)


def shuffle(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Returns rows in a random order."""
    return rows[torch.randperm(len(rows), generator=generator)]


def best_of(
    activations: list[Tensor], columns: Tensor, middle: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns for each column of answers the best neuron on the first half: layer, neuron, sign.

    The last one returned is its AUC there, above 0.5 whatever the sign.
    """
    tables = [auc(ranks(layer[:middle]), columns[:middle]) for layer in activations]  # (F, columns)
    n_neurons = torch.tensor([len(table) for table in tables])
    every = torch.cat(tables)
    distance, flat = (every - 0.5).abs().max(dim=0)
    ends = n_neurons.cumsum(0)
    layers = torch.searchsorted(ends, flat, right=True)
    neurons = flat - (ends - n_neurons)[layers]
    signs = (every.gather(0, flat[None])[0] - 0.5).sign().long()
    return layers, neurons, signs, 0.5 + distance


def ranks(values: Tensor) -> Tensor:
    """Returns the rank of each value in its column, from 1 on; equal ones share the mean rank.

    (N, F) -> (N, F), float64.
    """
    rows = values.T.contiguous()
    ordered = rows.sort(dim=1).values
    low = torch.searchsorted(ordered, rows)
    high = torch.searchsorted(ordered, rows, right=True)
    return ((low + high + 1).double() / 2).T


def auc(ranked: Tensor, answers: Tensor) -> Tensor:
    """Returns the AUC of each neuron for each predicate: (N, F) ranks, (N, P) -> (F, P)."""
    is_true = answers.double()
    n_true = is_true.sum(dim=0)
    above = ranked.T @ is_true - n_true * (n_true + 1) / 2
    return above / (n_true * (len(answers) - n_true))


def contexts_of(
    values: Tensor, sign: int, places: Sequence[tuple[Sequence[int], int]]
) -> list[Context]:
    """Returns the places where a neuron is highest, or lowest where its sign is -1."""
    best = (sign * values).topk(min(N_CONTEXTS, len(values))).indices.tolist()
    contexts = []
    for place in best:
        text, t = places[place]
        first = max(0, t - BEFORE)
        value = round(float(values[place]), 4)
        contexts.append(Context(list(text[first : t + AFTER + 1]), t - first, value))
    return contexts


def show_neurons(console: Console, inspection: Inspection, view: Neurons) -> None:
    """Prints the best neurons, and where each is at its highest."""
    console.print(
        f"the best of {view.n_neurons:,} neurons for each question, found on half of "
        f"{view.n_texts} texts and measured on the other half"
    )
    rows = [
        [
            f.predicate,
            f"{f.layer}.{f.neuron}{'' if f.sign > 0 else ' (low)'}",
            f"{f.auc:.3f}",
            f"{f.shuffled:.3f}",
            f"{f.share:.1%}",
        ]
        for f in view.found
    ]
    show_table(console, ["true where", "neuron", "AUC", "shuffled", "of positions"], rows)
    rows = [
        [name, one_line(quoted(inspection, context)), f"{context.value:.2f}"]
        for name, contexts in view.contexts.items()
        for context in contexts[:2]
    ]
    show_table(console, ["neuron", "context, up to the position", "activation"], rows)


def quoted(inspection: Inspection, context: Context) -> str:
    """Returns the text of a context up to its position."""
    return inspection.tokenizer.decode(context.ids[: context.at + 1])


def sum_up(inspection: Inspection, view: Neurons) -> str:
    """Returns the neuron that tells most."""
    if not view.found:
        return ""
    best = max(view.found, key=lambda found: found.auc)
    return (
        f"neuron {best.layer}.{best.neuron} tells {best.predicate} with AUC {best.auc:.3f}; "
        f"with shuffled answers {best.shuffled:.3f}"
    )


def ids_of(view: Neurons) -> Iterator[int]:
    """Yields the ids of all contexts."""
    return (id for contexts in view.contexts.values() for context in contexts for id in context.ids)


NEURONS = View(neurons_of, show_neurons, summary=sum_up, ids=ids_of, is_default=False)
