"""Edits: hooks that change a head, a residual, an attention edge or a neuron while a model runs.

    with hooked(model, [replace_head(1, 0, mean)]):
        logits = model(tokens)

A positions argument of None means all. `middle` cannot be edited: the norm that hooks see there is
one of its two readers; edit what attention adds instead.
Previous: capture.py.  Next: inspection.py.
"""

from collections.abc import Sequence

from torch import Tensor

from visualization.capture import Hook

Positions = Sequence[int] | slice | None


def replace_residual(layer: int, x: Tensor, positions: Positions = None) -> Hook:
    """Puts x, (B, T, C) or what broadcasts to it, in place of the residual stream before a layer.

    With layer = n_layer it is the stream behind the last block.
    """
    return Hook("residual", layer, lambda now: replaced(now, x, positions))


def add_to_residual(layer: int, direction: Tensor, positions: Positions = None) -> Hook:
    """Adds a direction, (C,) or (B, T, C), to the residual stream before a layer."""
    return Hook("residual", layer, lambda now: replaced(now, now + direction, positions))


def replace_head(layer: int, head: int, z: Tensor, n_head: int) -> Hook:
    """Puts z, (B, T, D) or what broadcasts to it, in place of the output of a head."""

    def see(now: Tensor) -> Tensor:
        heads = now.unflatten(-1, (n_head, -1)).clone()  # (B, T, H, D)
        heads[:, :, head] = z
        return heads.flatten(start_dim=2)

    return Hook("heads", layer, see)


def cut_edge(layer: int, head: int, query: int, key: int) -> Hook:
    """Sets the attention weight from a query's position to a key's to 0; needs explicit_attention.

    The rest of the row stays as it is.
    """

    def see(now: Tensor) -> Tensor:
        weights = now.clone()
        weights[:, head, query, key] = 0
        return weights

    return Hook("weights", layer, see)


def replace_neuron(layer: int, neuron: int, value: Tensor | float) -> Hook:
    """Puts a value, or one for each position, in place of the activation of a neuron."""

    def see(now: Tensor) -> Tensor:
        neurons = now.clone()
        neurons[:, :, neuron] = value
        return neurons

    return Hook("neurons", layer, see)


def replaced(now: Tensor, x: Tensor, positions: Positions) -> Tensor:
    """Returns now, (B, T, C), with the values of x at some positions."""
    x = x.expand_as(now)
    if positions is None:
        return x
    changed = now.clone()
    where = positions if isinstance(positions, slice) else list(positions)
    changed[:, where] = x[:, where]
    return changed
