"""The lens: what the model would say if it stopped here, at every depth of the residual stream.

    p_depth = softmax(lm_head(final_norm(x_depth)))     the "logit lens", nostalgebraist 2020

Depths: the embeddings, then x behind each attention and behind each feed-forward; the last one is
the model's own output. Early layers need not speak the output's language, so an unlikely answer
there does not prove that the model does not know it yet.
Previous: attention.py.  Next: attribution.py.
"""

import math
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

N_TOP = 3  # ids for each cell
CHUNK = 256  # positions whose logits are held at a time


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
    """Returns what each depth says at each position, some positions at a time."""
    trace, depths = inspection.trace, list(stages(inspection.trace))
    lens = Lens(
        [name for name, _ in depths],
        top=[[] for _ in depths],
        p_true=[[] for _ in depths],
        kl_to_end=[[] for _ in depths],
        settled=[],
    )
    nexts = torch.cat([trace.tokens[0, 1:], trace.tokens[0, :1]])  # (T,); the last is not known
    for start in range(0, len(nexts), CHUNK):
        part = slice(start, start + CHUNK)
        p_end = trace.logits[0, part].softmax(dim=-1)  # (CHUNK, V)
        entropy = -torch.xlogy(p_end, p_end).sum(dim=-1)
        for depth, (_, x) in enumerate(depths):
            logits = lens_logits(inspection.model, x[:, part])[0]
            log_sum = logits.logsumexp(dim=-1)
            lens.top[depth] += likeliest(logits, log_sum)
            true = logits.gather(1, nexts[part, None]).squeeze(1)
            lens.p_true[depth] += [round(p, 6) for p in (true - log_sum).exp().tolist()]
            # KL = sum of p_end (ln p_end - ln p_here)
            kl = log_sum - torch.einsum("tv,tv->t", p_end, logits) - entropy
            lens.kl_to_end[depth] += [round(max(0.0, n) / math.log(2), 3) for n in kl.tolist()]
    for row in lens.p_true:
        row[-1] = None
    answers = [[cell[0][0] for cell in row] for row in lens.top]
    for column in zip(*answers, strict=True):
        stays = [depth for depth in range(len(column)) if set(column[depth:]) == {column[-1]}]
        lens.settled.append(stays[0])
    return lens


def likeliest(logits: Tensor, log_sum: Tensor) -> list[list[tuple[int, float]]]:
    """Returns the likeliest ids of each position with their probabilities, from logits (T, V)."""
    found = logits.topk(min(N_TOP, logits.size(-1)))
    shares = (found.values - log_sum[:, None]).exp().tolist()
    return [
        [(id, round(p, 4)) for id, p in zip(*row, strict=True)]
        for row in zip(found.indices.tolist(), shares, strict=True)
    ]


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
