"""What a head is for: the rise in bits, by kind of event, where its output becomes its mean.

    rise(head, kind) = (bits of the kind's tokens with mean(z) for z - bits as they are) / events

The mean is over all positions of the same stories, so the head says nothing any more about the
text, while the layers behind it get what they are used to on average (mean ablation). The rise is
an effect, where attention alone is only a place that a head looks at.
Previous: ideal_view.py.  Next: fact_heads.py.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from visualization.capture import Hook, hooked
from visualization.edits import replace_head
from visualization.inspection import Report
from visualization.regret import Layout, target_bits, token_bits, windows_of

N_STORIES = 200


class HeadRise(NamedTuple):
    """The rise of one head, in bits per event, by kind of event."""

    layer: int
    head: int
    rise: dict[str, float]


def run_from(model: GPT2Model, layer: int, x: Tensor) -> Tensor:
    """(B, T, C) -> (B, T, V): the logits, from the residual stream before a layer."""
    return model.lm_head(model.final_norm(stream_from(model, layer, x)))


def stream_from(model: GPT2Model, layer: int, x: Tensor) -> Tensor:
    """(B, T, C) -> (B, T, C): the residual stream behind the last block, from that before one."""
    for block in list(model.blocks)[layer:]:
        x = block(x)
    return x


@torch.no_grad()
def residuals(model: GPT2Model, tokens: Tensor) -> tuple[Tensor, ...]:
    """(B, T) -> n_layer + 1 of (B, T, C): the residual stream before each layer, and at the end."""
    seen = list[Tensor]()
    hooks = [Hook("residual", layer, seen.append) for layer in range(model.config.n_layer + 1)]
    with hooked(model, hooks):
        model.hidden_states(tokens)
    return tuple(seen)


@torch.no_grad()
def mean_outputs(model: GPT2Model, layout: Layout, end_of_text: int) -> Tensor:
    """Returns the mean output z of each head over all positions of the stories, (L, H, D)."""
    config, count = model.config, 0
    total = torch.zeros(config.n_layer, config.n_embd, dtype=torch.float64)
    for batch in windows_of(layout.stream, config.context_length, end_of_text):
        seen = list[Tensor]()
        hooks = [Hook("heads", layer, seen.append) for layer in range(config.n_layer)]
        with hooked(model, hooks):
            model.hidden_states(batch.tokens)
        is_read = batch.targets != IGNORE_INDEX  # (B, T)
        total += torch.stack([z[is_read].double().sum(dim=0) for z in seen])
        count += int(is_read.sum())
    return (total / count).float().unflatten(1, (config.n_head, -1))


@torch.no_grad()
def ablated_bits(
    model: GPT2Model,
    layout: Layout,
    end_of_text: int,
    outputs: Tensor,
    report: Report = lambda *_: None,
) -> np.ndarray:
    """Returns what the model pays for each token with one head replaced, (L, H, tokens), in bits.

    outputs, (L, H, D), takes the place of each head's output, one head at a time. Only the layers
    from the head's on are computed again.
    """
    n_layer, n_head, _ = outputs.shape
    bits = np.zeros((n_layer, n_head, len(layout.stream)))
    done = 0
    for batch in windows_of(layout.stream, model.config.context_length, end_of_text):
        before = residuals(model, batch.tokens)
        for layer, head in product(range(n_layer), range(n_head)):
            with hooked(model, [replace_head(layer, head, outputs[layer, head], n_head)]):
                logits = run_from(model, layer, before[layer])
            batch.spread(target_bits(logits, batch.targets), bits[layer, head])
        done += sum(stop - start for start, stop in batch.spans)
        report(done, len(layout.stream) - 1)
    return bits


def rise_by_kind(layout: Layout, paid: np.ndarray, ablated: np.ndarray) -> list[HeadRise]:
    """Returns the rise of each head by kind of event, in bits per event.

    paid has the bits of each token as the model is, ablated those with a head replaced.
    """
    kinds, number = list(layout.n_events), np.array(layout.kinds)
    n_layer, n_head, _ = ablated.shape
    masks = {kind: number == kind for kind in kinds}
    return [
        HeadRise(layer, head, {
            kind: float((ablated[layer, head] - paid)[masks[kind]].sum() / layout.n_events[kind])
            for kind in kinds
        })
        for layer, head in product(range(n_layer), range(n_head))
    ]  # fmt: skip


def head_rises(
    model: GPT2Model, layout: Layout, end_of_text: int, report: Report = lambda *_: None
) -> list[HeadRise]:
    """Returns what each head is for: the rise in bits per event by kind, its output averaged."""
    paid = token_bits(model, layout, end_of_text)
    means = mean_outputs(model, layout, end_of_text)
    return rise_by_kind(layout, paid, ablated_bits(model, layout, end_of_text, means, report))
