"""The lens: what the model would say if it stopped here, at every depth of the residual stream.

    p_depth = softmax(lm_head(final_norm(x_depth)))     the "logit lens", nostalgebraist 2020

Depths: the embeddings, then x behind each attention and behind each feed-forward; the last one is
the model's own output. Early layers need not speak the output's language, so an unlikely answer
there does not prove that the model does not know it yet.
Previous: attention.py.  Next: attribution.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import torch
from rich.console import Console
from torch import Tensor

from gpt2 import GPT2Model
from training.progress import show_table
from visualization.capture import Trace
from visualization.inspection import Inspection, View
from visualization.surprise import CHUNK, log_probabilities

N_TOP = 3  # ids for each cell


@dataclass(frozen=True)
class Lens:
    """For the token after each position what each depth says of it."""

    depths: list[str]
    top: list[list[list[tuple[int, float]]]]  # by depth and position: the likeliest ids
    p_true: list[list[float | None]]  # the probability of the token that follows
    kl_to_end: list[list[float]]  # KL(last depth || this depth), in bits
    settled: list[int]  # the first depth from which on the likeliest token stays


def stages(trace: Trace) -> Iterator[tuple[str, Tensor]]:
    """Yields the name and the residual stream, (B, T, C), of each depth."""
    yield "embedding", trace.residual[0]
    for layer, middle in enumerate(trace.middle):
        yield f"{layer}.attention", middle
        yield f"{layer}.feedforward", trace.residual[layer + 1]


@torch.no_grad()
def lens_logits(model: GPT2Model, x: Tensor) -> Tensor:
    """Returns what the output layer makes of a residual stream: (B, T, C) -> (B, T, V)."""
    return model.lm_head(model.final_norm(x))


def lens_of(inspection: Inspection) -> Lens:
    """Returns what each depth says at each position."""
    trace, depths = inspection.trace, list(stages(inspection.trace))
    lens = Lens([name for name, _ in depths], [], [], [], [])
    for _, x in depths:
        top, p_true, kl = read_depth(trace, lens_logits(inspection.model, x)[0])
        lens.top.append(top)
        lens.p_true.append([*p_true, None])
        lens.kl_to_end.append(kl)
    answers = [[cell[0][0] for cell in row] for row in lens.top]
    for t in range(len(inspection.tokens)):
        column = [row[t] for row in answers]
        stays = [depth for depth in range(len(column)) if set(column[depth:]) == {column[-1]}]
        lens.settled.append(stays[0])
    return lens


def read_depth(
    trace: Trace, logits: Tensor
) -> tuple[list[list[tuple[int, float]]], list[float], list[float]]:
    """Returns the top of each cell of a depth, p of the true tokens, and KL from the end.

    logits: (T, V) of the depth. KL = sum of p_end (log2 p_end - log2 p_depth).
    """
    top, p_true, divergence = list[list[tuple[int, float]]](), list[float](), list[float]()
    nexts = trace.tokens[0, 1:].split(CHUNK)
    pairs = zip(log_probabilities(logits), log_probabilities(trace.logits[0]), strict=True)
    for number, (here, end) in enumerate(pairs):
        found = here.exp().topk(min(N_TOP, here.size(-1)))
        for ids, shares in zip(found.indices.tolist(), found.values.tolist(), strict=True):
            top.append([(id, round(p, 4)) for id, p in zip(ids, shares, strict=True)])
        true = nexts[number] if number < len(nexts) else trace.tokens[0, :0]
        p_true += [round(p, 6) for p in here[range(len(true)), true].exp().tolist()]
        bits = (end.exp() * (end - here)).sum(dim=-1) / torch.log(torch.tensor(2.0))
        divergence += [round(max(value, 0.0), 4) for value in bits.tolist()]
    return top, p_true, divergence


def show_lens(console: Console, inspection: Inspection, view: Lens) -> None:
    """Prints for each depth how far it is from the end, and how often it has the answer."""
    rows = []
    for depth, name in enumerate(view.depths):
        kl = view.kl_to_end[depth]
        known = [p for p in view.p_true[depth] if p is not None]
        mean = f"{sum(known) / len(known):.1%}" if known else "-"
        same = sum(
            here[0][0] == end[0][0] for here, end in zip(view.top[depth], view.top[-1], strict=True)
        )
        rows.append([name, f"{sum(kl) / len(kl):.2f}", f"{same / len(kl):.0%}", mean])
    heading = ["depth", "KL to the end, bits", "same answer", "mean p of the true token"]
    show_table(console, heading, rows, justify="right")


def sum_up(inspection: Inspection, view: Lens) -> str:
    """Returns the depth from which on half of the answers stay as they are."""
    depth = view.depths[round(median(view.settled))]
    last = sum(place == len(view.depths) - 1 for place in view.settled)
    return (
        f"half of the answers stay as they are from {depth} on; "
        f"{last} of {len(view.settled)} are decided by the last layer"
    )


def ids_of(view: Lens) -> Iterator[int]:
    """Yields the ids in the cells."""
    return (id for row in view.top for cell in row for id, _ in cell)


LENS = View(lens_of, show_lens, summary=sum_up, ids=ids_of)
