"""Data for the page of the X-ray with every view, of any tokens, from a generator of numbers."""

import base64
import random
import zlib
from collections.abc import Callable

N_LAYER, N_HEAD = 2, 3
KINDS = ("go", "ask", "evening")


def packed(data: bytes) -> str:
    """Returns bytes deflated and in base64, as the page reads them."""
    compressor = zlib.compressobj(wbits=-15)
    return base64.b64encode(compressor.compress(data) + compressor.flush()).decode("ascii")


def triangles(n_squares: int, n: int, byte: Callable[[int, int, int], int]) -> str:
    """Returns packed lower triangles; byte(square, t, s) is the weight of s <= t."""
    values = (byte(i, t, s) for i in range(n_squares) for t in range(n) for s in range(t + 1))
    return packed(bytes(values))


def xray_data(texts: list[str | bytes], language: str = "en") -> dict[str, object]:
    """Returns the data of a page; a token of bytes is no whole character."""
    draw, n, ids = random.Random(0), len(texts), list(range(len(texts)))
    tokens = [
        {"id": id, "text": "", "bytes": text.hex()}
        if isinstance(text, bytes)
        else {"id": id, "text": text, "bytes": None}
        for id, text in enumerate(texts)
    ]

    def numbers(n: int, *sizes: int) -> list:
        """Returns nested lists of numbers between 0 and 1."""
        return [numbers(*sizes) if sizes else round(draw.random(), 4) for _ in range(n)]

    bits = [None, *(round(9 * x, 3) for x in numbers(n - 1))]
    ideal = [None if x is None else round(x / 2, 3) for x in bits]
    depths = [
        "embedding",
        *(f"{i}.{x}" for i in range(N_LAYER) for x in ("attention", "feedforward")),
    ]
    parts = [
        "token",
        "position",
        *(f"{i}.{h}" for i in range(N_LAYER) for h in range(N_HEAD)),
        "norm_bias",
    ]
    steps = [0, 1, 4, 16, 64]
    square = triangles(N_LAYER * N_HEAD, n, lambda i, t, s: 255 if s == max(t - i, 0) else 0)
    map_ = {"name": "effect", "rows": ["0", "1"], "columns": ["statement", "question"],
            "values": [[0.5, -0.1], [0.9, None]], "bottom_up": True}  # fmt: skip
    table = {"name": "probes", "columns": ["what", "layer", "accuracy"],
             "rows": [["place", 0, 0.5], ["place", 1, 0.75]]}  # fmt: skip
    views: dict[str, object] = {
        "surprise": {
            "bits": bits, "total_bits": 40.0, "bytes": 30, "bits_per_byte": 1.3333,
            "worst": sorted(range(1, n), key=lambda t: -(bits[t] or 0)),
        },
        "alternatives": {
            "top": [[[t, 0.6], [(t + 1) % n, 0.3]] for t in range(n)],
            "drawn": [[0.9, 0.1]] * n, "temperature": 0.8, "top_p": 0.95,
        },
        "ideal": {
            "bits": ideal, "regret": ideal, "kl": numbers(n), "impossible_from": None,
            "top": [[[str(texts[(t + 1) % n]), 1.0]] for t in range(n)],
            "events": [{"kind": "go", "first": 1, "last": n - 1, 
                        "facts": {"en": "Anna is in the hall.", "ru": "Аня в зале."}}],
            "tables": [{"name": "by_kind", "columns": ["kind", "n", "regret"],
                        "rows": [[name, 3, 1.5 + i] for i, name in enumerate(KINDS)]}],
        },
        "attention": {
            "shape": [N_LAYER, N_HEAD, n, n], "layers": [0, 1], "heads": [0, 1, 2],
            "weight": square, "value_norms": numbers(N_LAYER, N_HEAD, n),
            "kept_share": 1.0, "sparse": None,
        },
        "heads": {
            "rows": [{"layer": i, "head": h, "previous": draw.random(), "entropy": 2.0, "sink": 0.5,
                      "copying": 0.1}
                     for i in range(N_LAYER) for h in range(N_HEAD)],
            "chance": {"previous": 0.1, "sink": 0.2},
        },
        "lens": {
            "depths": depths, "top": [[[[t, 0.5]] for t in range(n)] for _ in depths],
            "p_true": [[*row, None] for row in numbers(len(depths), n - 1)],
            "kl_to_end": numbers(len(depths), n), "settled": [t % len(depths) for t in range(n)],
        },
        "attribution": {
            "parts": parts, "candidates": [[(t + 1) % n, t] for t in range(n)],
            "values": numbers(n, 2, len(parts)),
        },
        "twin": {
            "kind": "evening", "twin": [0, 1, *range(n - 2)[1:-1]], "right": 1, "other": 2,
            "story_lead": 4.5, "twin_lead": -3.25, "depths": depths[::2],
            "effect": [[round(2 * x - 0.5, 4) for x in numbers(n - 2)] for _ in depths[::2]],
        },
        "neurons": {
            "found": [{"predicate": "next word is a place", "share": 0.1, "layer": 1, "neuron": 5,
                       "auc": 0.97, "shuffled": 0.52}],
            "contexts": {"1.5": [{"ids": ids, "at": n - 1, "value": 3.2}]},
        },
        "embeddings": {
            "ids": ids, "points": numbers(n, 2), "classes": ["person", "", *[""] * (n - 2)],
            "nearest": [[[(t + 1) % n, 0.5]] for t in range(n)], "explained": [0.2, 0.1],
            "tables": [{"name": "purity", "columns": ["class", "n"], "rows": [["person", 2]]}],
        },
        "probes": {"sentences": [{"en": "A control wins.", "ru": "Контроль лучше."}],
                   "tables": [table]},
        "patching": {"maps": [map_]},
        "growth": {
            "steps": steps,
            "curves": [
                {"name": "previous", "x": steps, "x_name": "step", "log": True, "chance": 0.1,
                 "lines": [{"name": f"1.{h}", "values": numbers(5)} for h in range(N_HEAD)]},
                {"name": "regret", "x": steps, "x_name": "step", "log": True,
                 "lines": [{"name": name, "values": numbers(5)} for name in KINDS]},
            ],
            "tables": [{"name": "learned", "columns": ["kind", "step"], "rows": [["go", 16]]}],
            "attention": {"head": "1.0", "shape": [5, 1, n, n],
                          "weight": triangles(5, n, lambda i, t, s: 255 // (t + 1))},
        },
    }  # fmt: skip
    return {
        "format": 1,
        "language": language,
        "run": {
            "name": "tiny", "n_layer": N_LAYER, "n_head": N_HEAD, "n_embd": 16, "context_length": n,
            "vocab_size": n, "parameters": 1234567, "step": 1700, "world": language,
        },
        "text_source": {"kind": "story", "number": 7, "cut": 0},
        "tokens": tokens,
        "vocabulary": {},
        "views": views,
    }  # fmt: skip
