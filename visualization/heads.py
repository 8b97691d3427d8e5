"""The table of heads: scores that say what each head does on random tokens, beside their chance.

    <|endoftext|> r_1 ... r_n r_1 ... r_n        r random, so that nothing but the copy helps

    previous    A[t, t-1]
    duplicate   A[t, t-n]      the same token, in the first copy
    induction   A[t, t-n+1]    the token behind it: prefix matching, Olsson et al. 2022
    sink        A[t, 0]
    entropy     of a row of A, in bits

Each is a mean over positions and sequences, and stands beside the value of a head that looks
everywhere alike. Position 0 is left out of the first three: many heads rest there when they have
nothing to look for. Copying needs no text: it is the sum of the eigenvalues of W_U W_O W_V W_E
over the sum of their absolute values (Elhage et al. 2021), 1 for a head that raises what it looks
at, -1 for one that lowers it. A score is no proof of what a head is for.
Previous: attribution.py.  Next: pictures.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from rich.console import Console
from torch import Tensor

from gpt2 import GPT2Model
from training.progress import show_table
from visualization.capture import block_of, capture
from visualization.fact_heads import facts_of
from visualization.inspection import Inspection, View

N_SEQUENCES, N_RANDOM = 32, 50  # random sequences, and the tokens of each that are repeated
AT_A_TIME = 4  # sequences
KINDS = ("previous", "induction", "duplicate")  # that the summary names
ABOVE_CHANCE = 0.1  # from which on the summary names a head
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a head, or those of one that looks everywhere alike."""

    previous: float
    duplicate: float
    induction: float
    sink: float
    entropy: float
    copying: float
    fact: float | None = None  # attention to what stated a known place of a built-in world


@dataclass(frozen=True, kw_only=True)
class HeadRow(Scores):
    """A head and its scores."""

    layer: int
    head: int


@dataclass(frozen=True)
class Heads:
    """The rows of all heads, by layer and head, and the chance level of each score."""

    rows: list[HeadRow]
    chance: Scores


def heads_of(inspection: Inspection) -> Heads | None:
    """Returns the table, None for a model whose context or vocabulary holds no repetition."""
    heads = score_heads(inspection.model, inspection.tokenizer.end_of_text)
    facts = facts_of(inspection)
    if heads is None or facts is None:
        return heads
    scores = facts.scores["all"]  # (L, H)
    return Heads(
        [replace(row, fact=round(float(scores[row.layer, row.head]), 5)) for row in heads.rows],
        replace(heads.chance, fact=round(facts.chance["all"], 5)),
    )


def score_heads(model: GPT2Model, first_token: int, n_sequences: int = N_SEQUENCES) -> Heads | None:
    """Returns the scores of every head on random sequences that begin with first_token."""
    sizes = model.config
    n = min(N_RANDOM, (sizes.context_length - 1) // 2)
    others = torch.tensor([id for id in range(sizes.vocab_size) if id != first_token])
    if n < 2 or len(others) < 2:
        return None
    generator = torch.Generator().manual_seed(SEED)
    rows = [random_repeated(others, first_token, n, generator) for _ in range(n_sequences)]
    sums = torch.zeros(sizes.n_layer, sizes.n_head, len(MEASURES))
    for batch in torch.stack(rows).split(AT_A_TIME):
        weights = torch.stack(capture(model, batch, ["weights"]).weights)  # (L, B, H, T, T)
        sums += measure(weights, n).sum(dim=1)
    means = sums / n_sequences
    uniform = 1 / torch.arange(1.0, 2 * n + 2)[:, None].expand(-1, 2 * n + 1)
    chance = measure(uniform.tril(), n)
    return Heads(
        [
            HeadRow(layer=layer, head=head, **named(means[layer, head]), copying=copying)
            for layer in range(sizes.n_layer)
            for head, copying in enumerate(copying_scores(model, layer))
        ],
        Scores(**named(chance), copying=0.0),
    )


def random_repeated(others: Tensor, first: int, n: int, generator: torch.Generator) -> Tensor:
    """Returns first and n random tokens twice, (2n + 1,); none is drawn twice where n allows."""
    if len(others) >= n:
        drawn = torch.randperm(len(others), generator=generator)[:n]
    else:
        drawn = torch.randint(len(others), (n,), generator=generator)
    return torch.cat([torch.tensor([first]), others[drawn], others[drawn]])


def diagonal(weights: Tensor, offset: int, start: int) -> Tensor:
    """Returns the mean of A[t, t - offset] over t >= start: (..., T, T) -> (...)."""
    return weights.diagonal(-offset, dim1=-2, dim2=-1)[..., start - offset :].mean(dim=-1)


def entropy(weights: Tensor) -> Tensor:
    """Returns the mean entropy of the rows after the first, in bits: (..., T, T) -> (...)."""
    rows = weights[..., 1:, :]
    return (-torch.xlogy(rows, rows) / math.log(2)).sum(dim=-1).mean(dim=-1)


MEASURES: dict[str, Callable[[Tensor, int], Tensor]] = {  # of A, (..., T, T), with T = 2n + 1
    "previous": lambda a, n: diagonal(a, 1, start=2),
    "duplicate": lambda a, n: diagonal(a, n, start=n + 1),
    "induction": lambda a, n: diagonal(a, n - 1, start=n + 1),
    "sink": lambda a, n: a[..., 1:, 0].mean(dim=-1),
    "entropy": lambda a, n: entropy(a),
}


def measure(weights: Tensor, n: int) -> Tensor:
    """Returns the measures of attention weights: (..., T, T) -> (..., number of measures)."""
    return torch.stack([function(weights, n) for function in MEASURES.values()], dim=-1)


def named(values: Tensor) -> dict[str, float]:
    """Returns measures, (number of measures,), by their names."""
    return {name: round(x, 5) for name, x in zip(MEASURES, values.tolist(), strict=True)}


@torch.no_grad()
def copying_scores(model: GPT2Model, layer: int) -> list[float]:
    """Returns the copying score of each head of a layer.

    The eigenvalues of W_U W_O W_V W_E, of which at most D are not 0, are those of the D x D matrix
    W_V W_E W_U W_O. The scales of the norms are part of W_E and W_U, and so is the mean that a norm
    takes away; the mean of W_U over the vocabulary, which moves all logits alike, is left out.
    """
    block, n_head = block_of(model, layer), model.config.n_head
    attention, embedding = block.attention, model.token_embedding.weight.double()  # (V, C)
    read = (embedding - embedding.mean(dim=1, keepdim=True)) * block.attention_norm.weight
    written = embedding * model.final_norm.weight
    written = written - written.mean(dim=1, keepdim=True)
    gram = read.T @ (written - written.mean(dim=0))  # (C, C)
    w_v = attention.qkv_proj.weight.double().chunk(3)[2].unflatten(0, (n_head, -1))  # (H, D, C)
    w_o = attention.out_proj.weight.double().unflatten(1, (n_head, -1)).transpose(0, 1)  # (H, C, D)
    eigenvalues = torch.linalg.eigvals(w_v @ gram @ w_o)  # (H, D)
    total = eigenvalues.abs().sum(dim=-1).clamp_min(1e-30)
    return [round(x, 4) for x in (eigenvalues.real.sum(dim=-1) / total).tolist()]


def show_heads(console: Console, inspection: Inspection, view: Heads) -> None:
    """Prints the scores of all heads, and their chance levels below."""
    names = [f.name for f in fields(Scores) if getattr(view.chance, f.name) is not None]
    rows = [
        [f"{row.layer}.{row.head}", *(f"{getattr(row, name):.3f}" for name in names)]
        for row in view.rows
    ]
    rows.append(["chance", *(f"{getattr(view.chance, name):.3f}" for name in names)])
    show_table(console, ["head", *names], rows, justify="right")


def sum_up(inspection: Inspection, view: Heads) -> str:
    """Returns the strongest head of each kind that stands clearly above chance, if there is one."""
    found, missing = [], []
    for kind in KINDS if view.chance.fact is None else (*KINDS, "fact"):
        best = max(view.rows, key=lambda row: getattr(row, kind))
        score, chance = getattr(best, kind), getattr(view.chance, kind)
        if score > chance + ABOVE_CHANCE:
            found.append(f"{kind} {best.layer}.{best.head} {score:.0%} (chance {chance:.0%})")
        else:
            missing.append(kind)
    if missing:
        points = f"none is {100 * ABOVE_CHANCE:.0f} points above chance"
        found.append(f"no head for {', '.join(missing)} on random tokens: {points}")
    return "; ".join(found)


HEADS = View(heads_of, show_heads, summary=sum_up)
