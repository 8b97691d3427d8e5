"""Fused attention against the formula: a whole text, with a KV cache, and its gradients.

Previous: ../call_counter.py.  Next: cache.py.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from decoding.ragged_cache import RaggedCache
from diagnostics.verify.call_counter import count_calls
from diagnostics.verify.check import Unavailable
from diagnostics.verify.comparison import Comparison, compare_gradients
from diagnostics.verify.gradients import forward_backward
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import explain_bound, max_abs_diff
from multiheadattention import explicit_attention

FP32 = torch.float32


@torch.inference_mode()
def fused(under_test: ModelUnderTest) -> Comparison:
    """Compares fused with explicit attention on all positions at once, as in training."""
    model, n_layer = under_test.model, under_test.model.config.n_layer
    with count_calls(model) as calls:
        fast = model(under_test.tokens)
    calls.require_fused_only(n_layer)
    with count_calls(model) as calls, explicit_attention():
        plain = model(under_test.tokens)
    calls.require_explicit_only(n_layer)
    return Comparison(max_abs_diff(fast, plain), under_test.fp32_bound, explain_bound(FP32))


@torch.inference_mode()
def fused_with_cache(under_test: ModelUnderTest) -> Comparison:
    """Compares the two with a cache, for the three masks that there are.

    The model computes several tokens, then one, then one in rows of unequal length.
    """
    model, n_layer = under_test.model, under_test.model.config.n_layer
    if under_test.tokens.size(1) < 2:
        raise Unavailable(f"a context of {under_test.context_length} has no room for another token")
    with count_calls(model) as calls:
        fast = logits_with_cache(under_test, nullcontext())
    calls.require_fused_only(4 * n_layer)
    with count_calls(model) as calls:
        plain = logits_with_cache(under_test, explicit_attention())
    calls.require_explicit_only(4 * n_layer)
    return Comparison(max_abs_diff(fast, plain), under_test.fp32_bound, explain_bound(FP32))


def logits_with_cache(
    under_test: ModelUnderTest, attention: AbstractContextManager[None]
) -> Tensor:
    """Returns (B, T, V): the logits of the tokens that follow a prefilled half of the text."""
    tokens = under_test.tokens[:, :-1]
    n_prefill = max(1, tokens.size(1) // 2)
    cache = RaggedCache(under_test.model, len(tokens), under_test.context_length)
    with attention:
        under_test.model(tokens[:, :n_prefill], cache)
        several = under_test.model(tokens[:, n_prefill:-1], cache)
        one = under_test.model(tokens[:, -1:], cache)
        cache.truncate([n_prefill, *[tokens.size(1)] * (len(tokens) - 1)])
        unequal = under_test.model(under_test.tokens[:, -1:], cache)
    return torch.cat([several, one, unequal], dim=1)


def fused_gradients(under_test: ModelUnderTest) -> Comparison:
    """Compares the gradients of a training step through fused and through explicit attention."""
    model = under_test.truncated_model
    with count_calls(model) as calls:
        fast = forward_backward(model, under_test.tokens)
    calls.require_fused_only(model.config.n_layer)
    with count_calls(model) as calls, explicit_attention():
        plain = forward_backward(model, under_test.tokens)
    calls.require_explicit_only(model.config.n_layer)
    return compare_gradients(under_test, fast, plain, FP32)
