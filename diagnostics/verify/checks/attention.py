"""Fused attention against the formula: a whole text, behind a cache, and its gradients.

Previous: ../gradients.py.  Next: reading.py.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from diagnostics.verify.check import Finding
from diagnostics.verify.gradients import compare, forward_backward
from diagnostics.verify.rounding import largest, reason
from diagnostics.verify.subject import Subject
from diagnostics.verify.witness import watch
from multiheadattention import explicit_attention

FP32 = torch.float32


@torch.inference_mode()
def whole_text(subject: Subject) -> Finding:
    """All positions at once, as in training."""
    model, n_layer = subject.model, subject.model.config.n_layer
    with watch(model) as seen:
        fused = model(subject.tokens)
    seen.require_fused_only(n_layer)
    with watch(model) as seen, explicit_attention():
        formula = model(subject.tokens)
    seen.require_formula_only(n_layer)
    return Finding(largest(fused, formula), subject.fp32_bound, reason(FP32))


@torch.inference_mode()
def behind_a_cache(subject: Subject) -> Finding:
    """Several positions, then one, then one in rows of unequal length: three shapes of mask."""
    model, n_layer = subject.model, subject.model.config.n_layer
    with watch(model) as seen:
        fused = read_in_three(subject, nullcontext())
    seen.require_fused_only(4 * n_layer)
    with watch(model) as seen:
        formula = read_in_three(subject, explicit_attention())
    seen.require_formula_only(4 * n_layer)
    return Finding(largest(fused, formula), subject.fp32_bound, reason(FP32))


def read_in_three(subject: Subject, attention: AbstractContextManager[None]) -> Tensor:
    """-> (B, T, V), of what was read behind the beginning of the text."""
    tokens = subject.tokens[:, :-1]
    n_first = max(1, tokens.size(1) // 2)
    cache = subject.model.new_cache(len(tokens))
    with attention:
        subject.model(tokens[:, :n_first], cache)
        several = subject.model(tokens[:, n_first:-1], cache)
        one = subject.model(tokens[:, -1:], cache)
        for layer in cache:
            layer.set_lengths([n_first, *[tokens.size(1)] * (len(tokens) - 1)])
        unequal = subject.model(subject.tokens[:, -1:], cache)
    return torch.cat([several, one, unequal], dim=1)


def backwards(subject: Subject) -> Finding:
    """The gradients of a training step."""
    model = subject.first_blocks
    with watch(model) as seen:
        fused = forward_backward(model, subject.tokens)
    seen.require_fused_only(model.config.n_layer)
    with watch(model) as seen, explicit_attention():
        formula = forward_backward(model, subject.tokens)
    seen.require_formula_only(model.config.n_layer)
    return compare(model, subject.tokens, fused, formula, FP32)
