"""Texts that are computed with a KV cache, in a batch or from a window, against each one alone.

Both sides use explicit attention; attention.py tests the fused kernel with a cache.
Previous: attention.py.  Next: generation.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.batch import RowBatch, window_start
from decoding.ragged_cache import RaggedCache
from decoding.rows import RowState
from diagnostics.verify.call_counter import CallCounter, count_calls
from diagnostics.verify.check import Unavailable
from diagnostics.verify.comparison import Comparison
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import explain_bound, max_abs_diff
from multiheadattention import explicit_attention

N_STEPS = 4  # decode steps of each text
N_SHARED = 40  # tokens of a shared prefix: enough for RowBatch to prefill it once
WHY = explain_bound(torch.float32)


@torch.inference_mode()
def incremental(under_test: ModelUnderTest) -> Comparison:
    """Compares a text that is computed in pieces, each token once, with the whole text."""
    model, tokens = under_test.model, under_test.tokens
    cache = model.new_cache(len(tokens))
    with count_calls(model) as calls, explicit_attention():
        pieces = [model(piece, cache) for piece in tokens.split(piece_sizes(tokens.size(1)), dim=1)]
    calls.require_tokens(tokens.numel())
    difference = max_abs_diff(torch.cat(pieces, dim=1), under_test.logits)
    return Comparison(difference, under_test.fp32_bound, WHY)


def piece_sizes(length: int) -> list[int]:
    """9 -> 4, 1, 1, 2, 1: a long prefix, then ones and twos, and no more than 16 pieces."""
    sizes = [max(1, length // 2)]
    while sum(sizes) < length:
        rest = length - sum(sizes)
        few = (1, 1, 2)[(len(sizes) - 1) % 3]
        sizes.append(rest if len(sizes) == 15 else min(rest, few))
    return sizes


@torch.inference_mode()
def reused(under_test: ModelUnderTest) -> Comparison:
    """Compares a cache that has held another text, cleared and later truncated, with no cache."""
    model, (first, second) = under_test.model, under_test.tokens.split(1)
    n_prefix, length = max(1, first.size(1) // 2), first.size(1)
    if length < 2:
        raise Unavailable(f"a context of {under_test.context_length} has no room for another token")
    mixed = torch.cat([first[:, :n_prefix], second[:, n_prefix:]], dim=1)
    cache = RaggedCache(model, 1, under_test.context_length)
    with count_calls(model) as calls, explicit_attention():
        model(second, cache)
        cache.truncate([0])
        fast = [model(first, cache)]
        cache.truncate([n_prefix])
        fast.append(model(mixed[:, n_prefix:], cache))
    calls.require_tokens(3 * length - n_prefix)
    tail = under_test.next_logits(mixed[0].tolist(), length - n_prefix)
    plain = [under_test.logits[:1], tail[None]]
    difference = max_abs_diff(torch.cat(fast, dim=1), torch.cat(plain, dim=1))
    return Comparison(difference, under_test.fp32_bound, WHY)


@torch.inference_mode()
def ragged(under_test: ModelUnderTest) -> Comparison:
    """Compares short and long texts in one batch, which one of them leaves, with each alone."""
    longest = min(under_test.tokens.size(1), under_test.context_length - N_STEPS)
    if longest < 4:
        raise Unavailable(f"a context of {under_test.context_length} has no room for decode steps")
    lengths = [longest // 2, longest, 1, 2]
    texts = [under_test.text[7 * i : 7 * i + length] for i, length in enumerate(lengths)]
    result = decode_together(under_test, texts, remaining=[0, 1, 3])
    n_padding = len(texts) * longest - sum(lengths)
    result.calls.require_tokens(sum(lengths) + 4 + 3 * (N_STEPS - 1), n_padding)
    return result.comparison


@torch.inference_mode()
def shared_prefix(under_test: ModelUnderTest) -> Comparison:
    """Compares texts whose shared prefix is prefilled once for all of them with each alone."""
    if under_test.context_length < N_SHARED + 3 + N_STEPS:
        raise Unavailable(f"a context of {under_test.context_length} is too short to share")
    texts = [under_test.text[:N_SHARED] + end for end in ([0], [1, 2, 0], [2, 1])]
    result = decode_together(under_test, texts, remaining=[0, 1, 2])
    result.calls.require_tokens(N_SHARED + 1 + 3 + 2 + 3 * N_STEPS, n_padding=3)
    return result.comparison


@torch.inference_mode()
def past_the_context(under_test: ModelUnderTest) -> Comparison:
    """Compares a text that outgrows the context, beside one that does not, with its windows."""
    n = under_test.context_length
    if n < 2 * N_STEPS:
        raise Unavailable(f"the window of a context of {n} moves with every other token")
    texts = [under_test.text[: n - 1], under_test.text[-2:]]
    result = decode_together(under_test, texts, remaining=[0, 1])
    # when the window of the first text moves, all but its newest token is computed again
    n_again = n - n // 2
    result.calls.require_tokens(n - 1 + 2 + 2 * N_STEPS + n_again, n_padding=n - 1 - 2)
    return result.comparison


@dataclass(frozen=True)
class BatchResult:
    """The comparison of texts in a batch with each alone, and the calls that the batch made."""

    comparison: Comparison
    calls: CallCounter


def decode_together(
    under_test: ModelUnderTest, texts: list[list[int]], remaining: list[int]
) -> BatchResult:
    """Prefills texts as a batch, then takes N_STEPS decode steps.

    After the first step only the rows in `remaining` stay in the batch.
    """
    rows = [RowState(prompt=text, seed=0) for text in texts]
    prefixes = list(texts)  # the tokens that each row of logits follows
    with count_calls(under_test.model) as calls, explicit_attention():
        batch = RowBatch(under_test.model, rows, N_STEPS)
        fast = [batch.prefill()]
        for step in range(N_STEPS):
            if step == 1:
                batch.keep(remaining)
            for i, row in enumerate(batch.rows):
                row.tokens.append(under_test.text[step + i])
            last = [[row.tokens[-1]] for row in batch.rows]
            fast.append(batch.step(torch.tensor(last, device=under_test.device)))
            prefixes += [row.prompt + row.tokens for row in batch.rows]
    plain = [logits_alone(under_test, prefix) for prefix in prefixes]
    difference = max_abs_diff(torch.cat(fast), torch.stack(plain))
    return BatchResult(Comparison(difference, under_test.fp32_bound, WHY), calls)


def logits_alone(under_test: ModelUnderTest, text: list[int]) -> Tensor:
    """Returns (V,): the logits after one text, or after the part of it that the context holds."""
    window = text[window_start(len(text), under_test.context_length) :]
    return under_test.next_logits(window)[0]
