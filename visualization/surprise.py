"""Surprise: how many bits each token cost the model, and what it had expected instead.

    bits_t = -log2 p(token_t | tokens before it)         summed: the length of the text in bits

Previous: inspection.py.  Next: attention.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from torch import Tensor

from decoding.sampling import probabilities
from training.progress import show_table
from visualization.inspection import Inspection, View

CHUNK = 64  # positions whose probabilities are held in float64 at a time
N_WORST, N_PRINTED = 20, 10  # tokens that are listed in the page, and in the terminal


@dataclass(frozen=True)
class Surprise:
    """The bits of each token; the first one has none, for nothing stands before it."""

    bits: list[float | None]
    total_bits: float
    bytes: int  # of the text whose bits are counted; an end-of-text token has none
    bits_per_byte: float | None
    worst: list[int]  # positions of the most surprising tokens, the worst first


@dataclass(frozen=True)
class Alternatives:
    """For the token after each position the likeliest ids, each with its probability.

    `drawn` has the same ids' probabilities once temperature and top-p have changed them, which is
    what `generate` draws from.
    """

    top: list[list[tuple[int, float]]]
    drawn: list[list[float]]
    temperature: float
    top_p: float | None


def log_probabilities(logits: Tensor) -> Iterator[Tensor]:
    """Yields ln p of a trace's logits, (T, V), in float64, some positions at a time."""
    for chunk in logits.split(CHUNK):
        yield chunk.double().log_softmax(dim=-1)


def bits_of(logits: Tensor, tokens: Tensor) -> list[float]:
    """Returns the bits of tokens 1 to T-1, from logits (T, V) and tokens (T,)."""
    nexts, bits = tokens[1:].split(CHUNK), list[float]()
    for values, chosen in zip(log_probabilities(logits[:-1]), nexts, strict=True):
        picked = values.gather(1, chosen[:, None]).squeeze(1)  # (CHUNK,)
        bits += (-picked / math.log(2)).tolist()
    return bits


def surprise_of(inspection: Inspection) -> Surprise:
    """Returns the bits of each token of the text."""
    trace, tokenizer = inspection.trace, inspection.tokenizer
    bits = bits_of(trace.logits[0], trace.tokens[0]) if len(inspection.tokens) > 1 else []
    special = set(tokenizer.special_tokens.values())
    counted = [id for id in inspection.tokens[1:] if id not in special]
    n_bytes = sum(len(tokenizer.token_bytes(id)) for id in counted)
    worst = sorted(range(len(bits)), key=lambda t: -bits[t])[:N_WORST]
    return Surprise(
        bits=[None, *(round(value, 5) for value in bits)],
        total_bits=sum(bits),
        bytes=n_bytes,
        bits_per_byte=sum(bits) / n_bytes if n_bytes else None,
        worst=[t + 1 for t in worst],
    )


def expected_at(inspection: Inspection, t: int) -> tuple[int, float]:
    """Returns the token that the model held most likely at position t, and its probability."""
    p = inspection.trace.logits[0, t - 1].double().softmax(dim=-1)
    return int(p.argmax()), float(p.max())


def alternatives_of(inspection: Inspection) -> Alternatives:
    """Returns the likeliest next tokens at each position."""
    rows, drawn = list[list[tuple[int, float]]](), list[list[float]]()
    sampling = inspection.sampling
    for values in log_probabilities(inspection.trace.logits[0]):
        found = values.exp().topk(min(inspection.top, values.size(-1)))
        for ids, shares in zip(found.indices.tolist(), found.values.tolist(), strict=True):
            rows.append([(id, round(p, 6)) for id, p in zip(ids, shares, strict=True)])
        chances = probabilities(values, (), sampling).gather(1, found.indices)
        drawn += [[round(p, 6) for p in row] for row in chances.tolist()]
    return Alternatives(rows, drawn, sampling.temperature, sampling.top_p)


def show_surprise(console: Console, inspection: Inspection, view: Surprise) -> None:
    """Prints the tokens that surprised the model most, and what it had expected."""
    if not view.worst:
        console.print("a single token has nothing before it that could predict it")
        return
    rows = []
    for t in sorted(view.worst[:N_PRINTED], key=lambda t: -(view.bits[t] or 0)):
        id, p = expected_at(inspection, t)
        token = inspection.shown(inspection.tokens[t])
        rows.append([str(t), token, f"{view.bits[t]:.2f}", inspection.shown(id), f"{p:.1%}"])
    show_table(console, ["position", "token", "bits", "expected", "with"], rows)


def show_alternatives(console: Console, inspection: Inspection, view: Alternatives) -> None:
    """Prints the likeliest next tokens at each position, as they are and as they are drawn."""
    rows = []
    for t, (id, options) in enumerate(zip(inspection.tokens, view.top, strict=True)):
        pairs = zip(options[:5], view.drawn[t], strict=False)
        listed = [f"{inspection.shown(other)} {p:.1%} ({q:.1%})" for (other, p), q in pairs]
        rows.append([str(t), inspection.shown(id), "  ".join(listed)])
    top_p = "" if view.top_p is None else f", top-p {view.top_p:g}"
    heading = f"likeliest next (after temperature {view.temperature:g}{top_p})"
    show_table(console, ["position", "token", heading], rows)


def sum_up(inspection: Inspection, view: Surprise) -> str:
    """Returns the length of the text in bits, and the token that cost most of them."""
    if not view.worst or view.bits_per_byte is None:
        return ""
    t = view.worst[0]
    id, p = expected_at(inspection, t)
    return (
        f"{view.total_bits:.1f} bits, {view.bits_per_byte:.4f} per byte; most for "
        f"{inspection.shown(inspection.tokens[t])} at {t}: {view.bits[t]:.1f}, where "
        f"{inspection.shown(id)} had {p:.0%}"
    )


SURPRISE = View(surprise_of, show_surprise, summary=sum_up)
ALTERNATIVES = View(
    alternatives_of,
    show_alternatives,
    ids=lambda view: (id for row in view.top for id, _ in row),
)
