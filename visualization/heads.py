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
Previous: attribution.py.  Next: ideal.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from rich.console import Console
from torch import Tensor

from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from training.progress import show_table
from visualization.capture import Hook, block_of, hooked
from visualization.fact_heads import facts_of
from visualization.inspection import Inspection, View

N_SEQUENCES, N_RANDOM = 32, 50  # random sequences, and the tokens of each that are repeated
MANY_PARAMETERS, FEWER = 50_000_000, 8  # a model of this size reads fewer sequences
VOCABULARY_CHUNK = 4096  # embeddings that are held in float64 at a time
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
    model = inspection.model
    n_sequences = N_SEQUENCES if model.n_parameters() < MANY_PARAMETERS else FEWER
    heads = score_heads(model, inspection.tokenizer.end_of_text, n_sequences)
    facts = facts_of(inspection) if heads else None
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
        sums += measure(attention_weights(model, batch), n).sum(dim=1)
    means = sums / n_sequences
    uniform = 1 / torch.arange(1.0, 2 * n + 2)[:, None].expand(-1, 2 * n + 1)
    chance = measure(uniform.tril(), n)
    return Heads(
        [
            HeadRow(layer=layer, head=head, **named(means[layer, head]), copying=score)
            for layer, scores in enumerate(copying_scores(model))
            for head, score in enumerate(scores)
        ],
        Scores(**named(chance), copying=0.0),
    )


@torch.no_grad()
def attention_weights(model: GPT2Model, tokens: Tensor) -> Tensor:
    """Returns the weights of all layers, (L, B, H, T, T), without a pass through the output."""
    seen = list[Tensor]()
    hooks = [Hook("weights", layer, seen.append) for layer in range(model.config.n_layer)]
    with explicit_attention(), hooked(model, hooks):
        model.hidden_states(tokens)
    return torch.stack(seen)


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
def copying_scores(model: GPT2Model) -> list[list[float]]:
    """Returns the copying score of each head, by layer.

    The eigenvalues of W_U W_O W_V W_E, of which at most D are not 0, are those of the D x D matrix
    W_V W_E W_U W_O. The scales of the norms are part of W_E and W_U, and so is the mean that a norm
    takes away; the mean of W_U over the vocabulary, which moves all logits alike, is left out.
    """
    n_head, gram, scores = model.config.n_head, embedding_gram(model), list[list[float]]()
    for layer in range(model.config.n_layer):
        block = block_of(model, layer)
        w_v = block.attention.qkv_proj.weight.double().chunk(3)[2] * block.attention_norm.weight
        w_v = w_v.unflatten(0, (n_head, -1))  # (H, D, C)
        w_o = block.attention.out_proj.weight.double()
        w_o = w_o.unflatten(1, (n_head, -1)).transpose(0, 1)  # (H, C, D)
        eigenvalues = torch.linalg.eigvals(w_v @ gram @ w_o)  # (H, D)
        total = eigenvalues.abs().sum(dim=-1).clamp_min(1e-30)
        shares = eigenvalues.real.sum(dim=-1) / total
        scores.append([round(x, 4) for x in shares.tolist()])
    return scores


def embedding_gram(model: GPT2Model) -> Tensor:
    """Returns W_E W_U without the scale of an attention norm, (C, C), in float64."""
    table, gamma = model.token_embedding.weight, model.final_norm.weight.double()
    gram = torch.zeros(table.size(1), table.size(1), dtype=torch.float64)
    sums = [torch.zeros(table.size(1), dtype=torch.float64) for _ in "EU"]
    for chunk in table.split(VOCABULARY_CHUNK):
        read = chunk.double()
        written = read * gamma
        read = read - read.mean(dim=1, keepdim=True)
        written = written - written.mean(dim=1, keepdim=True)
        gram += read.T @ written
        sums = [total + part.sum(dim=0) for total, part in zip(sums, (read, written), strict=True)]
    return gram - torch.outer(*sums) / table.size(0)


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
        found.append(f"no head for {', '.join(missing)}: {points}")
    return "; ".join(found)


HEADS = View(heads_of, show_heads, summary=sum_up)
