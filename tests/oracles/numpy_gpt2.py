"""GPT-2's forward pass a second time: NumPy, fp64, one head and one query at a time, no mask.

A query looks at keys[: t + 1], so nothing has to be masked; every projection is a plain product.
"""

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


def numpy_logits(weights: Weights, tokens: Array, n_head: int) -> Array:
    """Weights by the model's own names, tokens (B, T) -> logits (B, T, V)."""
    wide = {name: values.astype(np.float64) for name, values in weights.items()}
    return np.stack([one_text(wide, row, n_head) for row in tokens])


def one_text(weights: Weights, tokens: Array, n_head: int) -> Array:
    table = weights["token_embedding.weight"]
    stream = np.array(
        [table[token] + weights["position_embedding.weight"][t] for t, token in enumerate(tokens)]
    )
    n_layer = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    for layer in range(n_layer):
        at = f"blocks.{layer}."
        normed = norm(weights, at + "attention_norm", stream)
        stream = stream + attention(weights, at + "attention", normed, n_head)
        normed = norm(weights, at + "feedforward_norm", stream)
        hidden = bend(linear(weights, at + "feedforward.widen_proj", normed))
        stream = stream + linear(weights, at + "feedforward.narrow_proj", hidden)
    return norm(weights, "final_norm", stream) @ table.T


def linear(weights: Weights, name: str, x: Array) -> Array:
    return np.einsum("ti,oi->to", x, weights[name + ".weight"]) + weights.get(name + ".bias", 0.0)


def norm(weights: Weights, name: str, x: Array) -> Array:
    deviation = np.sqrt(np.var(x, axis=1) + 0.00001)
    flat = (x - np.average(x, axis=1)[:, None]) / deviation[:, None]
    return flat * weights[name + ".weight"] + weights.get(name + ".bias", 0.0)


def bend(x: Array) -> Array:
    return x * 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def attention(weights: Weights, name: str, x: Array, n_head: int) -> Array:
    queries, keys, values = np.split(linear(weights, name + ".qkv_proj", x), 3, axis=1)
    size = x.shape[1] // n_head
    gathered = np.zeros_like(x)
    for head in range(n_head):
        own = slice(head * size, (head + 1) * size)
        for t in range(len(x)):
            scores = keys[: t + 1, own] @ queries[t, own] / size**0.5
            shares = np.exp(scores - scores.max())
            gathered[t, own] = (shares / shares.sum()) @ values[: t + 1, own]
    return linear(weights, name + ".out_proj", gathered)
