"""Attention: the weights of every head, packed small enough for a page.

    A[t, s]: the share of what position t gathers that comes from position s <= t
    size[t, s] = A[t, s] |v_s W_O|          how much really arrives (Kobayashi et al. 2020)

A file gets A as the fp32 numbers that they are where these take little room, else as bytes, 255 for
1: row t with its t + 1 entries, deflated; and the norms, from which the page makes sizes. Attention
says where a head looks, not why.
Previous: surprise.py.  Next: lens.py.
"""

import base64
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from torch import Tensor

from training.progress import show_table
from visualization.capture import block_of
from visualization.inspection import Inspection, View

EXACT = "f32-lower-triangle-deflate-raw-base64"  # little-endian
ROUNDED = "u8-lower-triangle-deflate-raw-base64"
MOST_EXACT, MOST_IN_JSON = 2**18, 2**24  # weights that a page, or JSON, has as fp32 numbers
LARGEST = 32  # weights that are kept of each row where not all fit
MOST_DEFLATED = 4  # times by which deflating may make attention smaller
SHARE_OF_FILE = 0.75  # which attention may take
BASE64 = 3 / 4  # bytes that a character of base64 holds


@dataclass(frozen=True)
class Sparse:
    """The k largest weights of each row, and their positions in ascending order."""

    k: int
    index: str  # positions as little-endian u16; row t has min(t + 1, k) of them
    weight: str


@dataclass(frozen=True)
class Attention:
    """The weights of some heads of some layers: all of them or, in `sparse`, the largest."""

    shape: tuple[int, int, int, int]  # layers, heads, T, T
    layers: list[int]
    heads: list[int]
    encoding: str
    kept_share: float  # of the weight, which sums to 1 in each row
    value_norms: list[list[list[float]]]  # |v_s W_O| by layer, head and position s
    weight: str | None = None
    sparse: Sparse | None = None


def attention_of(inspection: Inspection) -> Attention:
    """Returns the packed attention of the chosen layers and heads, within the file's limit."""
    trace, layers, heads = inspection.trace, list(inspection.layers), list(inspection.heads)
    n_tokens = trace.tokens.size(1)
    norms = [value_norms(inspection, layer)[heads] for layer in layers]  # each (H, T)
    limit = inspection.limit_bytes and int(inspection.limit_bytes * SHARE_OF_FILE * BASE64)
    n_weights = len(layers) * len(heads) * n_tokens * (n_tokens + 1) // 2
    packed, sparse, kept = None, None, 1.0
    is_exact = n_weights <= (min(MOST_EXACT, limit // 4) if limit else MOST_IN_JSON)
    if not limit or n_weights < MOST_DEFLATED * limit:
        packed = pack(weights_of(inspection), is_exact=is_exact)
    if limit and (packed is None or len(packed) > limit):
        k, packed = LARGEST, None
        while (sparse := pack_largest(weights_of(inspection), k)).size > limit and k > 1:
            k //= 2
        kept = sparse.kept_share
    return Attention(
        shape=(len(layers), len(heads), n_tokens, n_tokens),
        layers=layers,
        heads=heads,
        encoding=EXACT if is_exact else ROUNDED,
        kept_share=round(kept, 4),
        value_norms=[[[round(x, 4) for x in row] for row in norm.tolist()] for norm in norms],
        weight=as_text(packed) if packed is not None else None,
        sparse=sparse and Sparse(sparse.k, as_text(sparse.index), as_text(sparse.weight)),
    )


def weights_of(inspection: Inspection) -> Iterator[np.ndarray]:
    """Yields the weights of the chosen heads of each chosen layer, (H, T, T)."""
    for layer in inspection.layers:
        yield inspection.trace.weights[layer][0, list(inspection.heads)].numpy()


def value_norms(inspection: Inspection, layer: int) -> Tensor:
    """Returns |v_s W_O| for each head and position s of a layer, (H, T)."""
    n_head = inspection.model.config.n_head
    _, _, v = inspection.trace.q_k_v(layer, n_head)  # (1, H, T, D)
    out_proj = block_of(inspection.model, layer).attention.out_proj.weight.detach()  # (C, C)
    per_head = out_proj.unflatten(1, (n_head, -1)).permute(1, 2, 0)  # (H, D, C)
    return (v[0] @ per_head).norm(dim=-1)  # (H, T)


def to_bytes(weights: np.ndarray) -> np.ndarray:
    """Returns weights between 0 and 1 as bytes between 0 and 255, rounded."""
    return np.rint(255 * weights).astype(np.uint8)


def deflate(data: bytes) -> bytes:
    """Returns data as a raw deflate stream, which browsers undo as "deflate-raw"."""
    compressor = zlib.compressobj(level=6, wbits=-15)
    return compressor.compress(data) + compressor.flush()


def as_text(data: bytes) -> str:
    """Returns bytes in base64."""
    return base64.b64encode(data).decode("ascii")


def pack(weights: Iterable[np.ndarray], *, is_exact: bool = False) -> bytes:
    """Returns the lower triangles of (H, T, T) arrays, one for each layer, deflated.

    They are fp32 numbers where they are exact, else a byte for each weight.
    """
    numbers = (layer.astype("<f4") if is_exact else to_bytes(layer) for layer in weights)
    triangles = (layer[:, np.tri(layer.shape[-1], dtype=bool)] for layer in numbers)
    return deflate(b"".join(triangle.tobytes() for triangle in triangles))


@dataclass(frozen=True)
class Largest:
    """The largest weights of each row, deflated, and the share of the weight that they have."""

    k: int
    index: bytes
    weight: bytes
    kept_share: float

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.index) + len(self.weight)


def pack_largest(weights: Iterable[np.ndarray], k: int) -> Largest:
    """Returns the k largest weights of each row of (H, T, T) arrays, one for each layer."""
    index, values, kept, n_rows = list[bytes](), list[bytes](), 0.0, 0
    for layer in weights:
        n_tokens = layer.shape[-1]
        k, lower = min(k, n_tokens), np.tri(n_tokens, dtype=bool)
        order = np.argpartition(np.where(lower, layer, -1), n_tokens - k, axis=-1)
        chosen = np.sort(order[..., -k:], axis=-1)  # (H, T, k)
        largest = np.take_along_axis(layer, chosen, axis=-1)
        exist = chosen <= np.arange(n_tokens)[:, None]  # of a short row, which has fewer than k
        index.append(chosen[exist].astype("<u2").tobytes())
        values.append(to_bytes(largest[exist]).tobytes())
        kept += float(largest[exist].sum(dtype=np.float64))
        n_rows += len(layer) * n_tokens
    return Largest(k, deflate(b"".join(index)), deflate(b"".join(values)), kept / n_rows)


def show_attention(console: Console, inspection: Inspection, view: Attention) -> None:
    """Prints for each head the positions at which one token looks most."""
    t = inspection.position
    rows = []
    for layer in view.layers:
        for head in view.heads:
            row = inspection.trace.weights[layer][0, head, t, : t + 1]
            best = row.topk(min(3, len(row)))
            seen = [
                f"{inspection.shown(inspection.tokens[s])} at {s}: {share:.0%}"
                for s, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
            rows.append([f"{layer}.{head}", "  ".join(seen)])
    console.print(f"from {inspection.shown(inspection.tokens[t])} at {t}")
    show_table(console, ["head", "looks at"], rows)


def sum_up(inspection: Inspection, view: Attention) -> str:
    """Returns what was left out of the page, where something was."""
    if view.sparse is None:
        return ""
    return (
        f"the {view.sparse.k} largest weights of each row are in the page, {view.kept_share:.1%} "
        "of the weight; --format json or fewer --layers give all"
    )


ATTENTION = View(attention_of, show_attention, summary=sum_up)
