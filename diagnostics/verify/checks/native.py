"""The native decode step, a program in C++, against the formula with the same weights.

The step takes up to 16 tokens at a time and writes their keys and values into the cache by itself.
Here it starts from an empty cache, so that neither PyTorch's attention nor KVCache.append has a
part in its logits; the reference computes the whole text without a cache.
Previous: quantization.py.  Next: preparation.py.
"""

import copy

import torch
from torch import Tensor

from decoding.ragged_cache import RaggedCache
from diagnostics.verify.call_counter import count_calls
from diagnostics.verify.check import Unavailable
from diagnostics.verify.checks.quantization import dequantize
from diagnostics.verify.comparison import Comparison
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import explain_bound, logit_bound, max_abs_diff
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from native.compiled import MAX_STEP_TOKENS, compile_model, missing
from quantization.int8 import quantize

MAX_TOKENS = 64  # of each text; every step is another call, and one call is like the next
FP32, BF16 = torch.float32, torch.bfloat16


def fp32_step(under_test: ModelUnderTest) -> Comparison:
    """Compares the native step on fp32 weights with the formula."""
    model = copy.deepcopy(under_test.model)
    return compare(under_test, model, under_test.model, FP32)


def bf16_step(under_test: ModelUnderTest) -> Comparison:
    """Compares the native step on bf16 weights, with a bf16 cache, with the formula in fp32."""
    model = copy.deepcopy(under_test.model).bfloat16()
    return compare(under_test, model, copy.deepcopy(model).float(), BF16)


def int8_step(under_test: ModelUnderTest) -> Comparison:
    """Compares the native step on int8 weights with the formula on dequantized weights."""
    model = quantize(copy.deepcopy(under_test.model))
    return compare(under_test, model, dequantize(under_test.model, model), FP32)


@torch.inference_mode()
def compare(
    under_test: ModelUnderTest, model: GPT2Model, plain_model: GPT2Model, dtype: torch.dtype
) -> Comparison:
    """Compares `model` with the native step put into it with `plain_model`, of the same weights.

    The bound allows for roundings in dtype. Raises Unavailable where the step cannot be compiled.
    """
    reason = missing(model)
    if reason is not None:
        raise Unavailable(f"the native step: {reason}")
    tokens = under_test.tokens[:, :MAX_TOKENS]
    compile_model(model)
    with count_calls(model) as calls:
        fast = step_logits(model, tokens)
    calls.require_native_step(tokens.numel() + len(tokens))
    with explicit_attention():
        plain = plain_model(tokens)
        shortened = torch.cat([tokens[:1, : tokens.size(1) // 2], tokens[:1, -1:]], dim=1)
        unequal = plain_model(shortened)[:, -1:]
    # the ragged step computes the last token again: in the first row after half of the text
    last = torch.cat([unequal, plain[1:, -1:]])
    bound = logit_bound(plain_model, tokens, plain, dtype)
    difference = max_abs_diff(fast, torch.cat([plain, last], dim=1))
    return Comparison(difference, bound, explain_bound(dtype))


def step_logits(model: GPT2Model, tokens: Tensor) -> Tensor:
    """(B, T) -> (B, T + 1, V): logits of steps of many tokens, of one, and of unequal rows.

    The first half of the text is computed in steps as large as possible, the second half token by
    token; then the first row is truncated to its first half, and the last token comes once more.
    """
    n_rows, length = tokens.shape
    n_first = length // 2
    cache = RaggedCache(model, n_rows, length)
    large = tokens[:, :n_first].split(MAX_STEP_TOKENS // n_rows, dim=1)
    pieces = [*large, *tokens[:, n_first:].split(1, dim=1)]
    logits = [model(piece, cache) for piece in pieces]
    cache.truncate([n_first, *[length - 1] * (n_rows - 1)])
    logits.append(model(tokens[:, -1:], cache))
    return torch.cat(logits, dim=1)
