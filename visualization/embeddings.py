"""Embeddings: which tokens and which positions the model treats alike, before it has read any.

    E - mean(E) = U S V^T       a token's point: its coordinates along the first columns of V
    cosine(a, b) = a.b / (|a| |b|)      of two tokens, or of two positions

Two directions show a small part of the space, the share of the variance that `explained` says, so
tokens that lie together in the picture may be far apart. Neighbours are found in the whole space.
E has the tokens that a world's stories use; hundreds of others are steps of the tokenizer's merges,
which training leaves where they began, and which would take the first direction for themselves.
Previous: sample.py.  Next: embeddings_picture.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from rich.console import Console
from torch import Tensor

from training.progress import show_table
from visualization.blocks import Cell, Table
from visualization.inspection import Inspection, View
from visualization.sample import sample_of
from visualization.word_classes import CLASSES, Named, tokens_of_words

N_DIRECTIONS = 10  # whose share of the variance is told
N_NEAREST = 5  # neighbours of each token
N_TEXTS = 60  # stories, whose tokens give the directions
MAX_TOKENS = 500  # that are drawn
MAX_POSITIONS = 64  # whose similarities are told: every n-th


@dataclass(frozen=True)
class Purity:
    """How many of the nearest tokens of a class's words are of the same class."""

    kind: str
    n: int  # words of the class that are one token
    share: float  # of their nearest tokens
    chance: float  # the same of any tokens of the vocabulary
    same_word: float | None  # the share whose nearest token is another form of the same word


@dataclass(frozen=True)
class Embeddings:
    """Some tokens as points, with their neighbours, and how alike the positions are."""

    ids: list[int]
    points: list[tuple[float, float]]
    classes: list[str]  # of each token: person, place, thing, look, or "" for any other
    explained: list[float]  # the share of the variance along each of the first directions
    nearest: list[list[tuple[int, float]]]  # of each token: the ids most like it, their cosine
    purity: list[Purity]
    positions: list[int]
    position_cosine: list[list[float]]  # of each pair of positions
    tables: list[Table] = field(default_factory=list)  # purity as the page draws it


def embeddings_of(inspection: Inspection) -> Embeddings:
    """Returns the tokens that name something in the world and those of the text that was read."""
    model, tokenizer = inspection.model, inspection.tokenizer
    named: Mapping[int, Named] = {}
    if inspection.world:
        named = tokens_of_words(tokenizer, inspection.world)
    ids = [*named, *(id for id in dict.fromkeys(inspection.tokens) if id not in named)]
    ids = ids[:MAX_TOKENS]
    table = model.token_embedding.weight.detach()  # (V, C)
    used = {*ids, *(id for text in sample_of(inspection, N_TEXTS) for id in text)}
    rows = sorted(used) if inspection.world else list(range(len(table)))
    points, explained = principal_axes(table[rows])
    place_of = {id: place for place, id in enumerate(rows)}
    nearest = neighbours(table, ids, N_NEAREST)
    stride = -(-model.config.context_length // MAX_POSITIONS)
    positions = model.position_embedding.weight.detach()[::stride]
    purity = [
        purity_of(kind, named, dict(zip(ids, nearest, strict=True)), len(table))
        for kind in CLASSES
        if named
    ]
    return Embeddings(
        ids=ids,
        points=[
            (round(x, 4), round(y, 4)) for x, y in points[[place_of[id] for id in ids]].tolist()
        ],
        classes=[named[id].kind if id in named else "" for id in ids],
        explained=[round(share, 4) for share in explained[:N_DIRECTIONS].tolist()],
        nearest=nearest,
        purity=purity,
        positions=list(range(0, model.config.context_length, stride)),
        position_cosine=[[round(c, 3) for c in row] for row in cosines(positions, positions)],
        tables=tables_of(purity),
    )


def tables_of(purity: list[Purity]) -> list[Table]:
    """Returns the table of the page: how alike the words of each class are."""
    columns = ["class", "n", "share", "chance", "same_word"]
    rows: list[list[Cell]] = [[*vars(row).values()] for row in purity]
    return [Table("purity", columns, rows)] if rows else []


def principal_axes(table: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the first two coordinates of each row, and the share of variance of every direction.

    (V, C) -> (V, 2), (C,). V of the singular value decomposition is found from the C x C matrix of
    covariances, which is small for a large vocabulary too. Of each direction the sign is free: the
    largest coordinate is taken to be positive.
    """
    centred = table.double() - table.double().mean(dim=0)
    variances, directions = torch.linalg.eigh(centred.T @ centred)  # in ascending order
    variances, directions = variances.flip(0).clamp(min=0), directions.flip(1)
    points = centred @ directions[:, :2]
    extreme = points.gather(0, points.abs().argmax(dim=0, keepdim=True))  # (1, 2)
    return points * extreme.sign(), variances / variances.sum()


def cosines(rows: Tensor, others: Tensor) -> list[list[float]]:
    """Returns the cosine of each row, (N, C), with each of the others, (M, C)."""
    one, other = (torch.nn.functional.normalize(x.double(), dim=-1) for x in (rows, others))
    return (one @ other.T).tolist()


def neighbours(table: Tensor, ids: list[int], n: int) -> list[list[tuple[int, float]]]:
    """Returns for each id the n ids whose rows have the highest cosine with its own."""
    directions = torch.nn.functional.normalize(table.double(), dim=-1)  # (V, C)
    alike = directions[ids] @ directions.T
    alike[range(len(ids)), ids] = -2  # not itself
    best = alike.topk(min(n, len(table) - 1))
    return [
        [(id, round(cosine, 4)) for id, cosine in zip(row, values, strict=True)]
        for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def purity_of(
    kind: str,
    named: Mapping[int, Named],
    nearest: Mapping[int, list[tuple[int, float]]],
    vocab_size: int,
) -> Purity:
    """Returns how many of the nearest tokens of a class's words are of the class as well."""
    members = [id for id, what in named.items() if what.kind == kind]
    found = [named.get(id) for member in members for id, _ in nearest[member]]
    same = sum(what is not None and what.kind == kind for what in found)
    forms = [m for m in members if sum(named[m] == other for other in named.values()) > 1]
    twins = sum(named.get(nearest[member][0][0]) == named[member] for member in forms)
    return Purity(
        kind=kind,
        n=len(members),
        share=round(same / max(1, len(found)), 4),
        chance=round(max(0, len(members) - 1) / (vocab_size - 1), 4),
        same_word=round(twins / len(forms), 4) if forms else None,
    )


def show_embeddings(console: Console, inspection: Inspection, view: Embeddings) -> None:
    """Prints for each class how alike its words are, and the neighbours of some of them."""
    console.print(
        f"{sum(view.explained[:2]):.0%} of the variance lies along two directions, "
        f"{sum(view.explained):.0%} along {len(view.explained)}"
    )
    if view.purity:
        rows = [
            [p.kind, str(p.n), f"{p.share:.0%}", f"{p.chance:.1%}", ""]
            if p.same_word is None
            else [p.kind, str(p.n), f"{p.share:.0%}", f"{p.chance:.1%}", f"{p.same_word:.0%}"]
            for p in view.purity
        ]
        heading = ["class", "words", "neighbours of the class", "by chance", "same word first"]
        show_table(console, heading, rows, justify="right")
    rows = []
    for kind in dict.fromkeys(view.classes):
        places = [place for place, other in enumerate(view.classes) if other == kind]
        for place in places[:3]:
            listed = [f"{inspection.shown(id)} {c:.2f}" for id, c in view.nearest[place]]
            rows.append([inspection.shown(view.ids[place]), kind, "  ".join(listed)])
    show_table(console, ["token", "class", "most alike"], rows)


def sum_up(inspection: Inspection, view: Embeddings) -> str:
    """Returns how alike the words of each class are."""
    shares = [f"{p.kind} {p.share:.0%}" for p in view.purity]
    if not shares:
        return f"two directions hold {sum(view.explained[:2]):.0%} of the variance"
    return f"of the nearest tokens of a word are of its own class: {', '.join(shares)}"


def ids_of(view: Embeddings) -> Iterator[int]:
    """Yields the tokens and their neighbours."""
    yield from view.ids
    yield from (id for row in view.nearest for id, _ in row)


EMBEDDINGS = View(embeddings_of, show_embeddings, sum_up, ids_of)
