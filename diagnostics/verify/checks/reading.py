"""Texts that are read in pieces, side by side or from a window, against each one whole and alone.

All by the formula, with and without: what the fused kernel makes of a cache is attention.py's.
Previous: attention.py.  Next: writing.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.batch import Batch, window_start
from diagnostics.verify.check import Finding, NotHere
from diagnostics.verify.rounding import largest, reason
from diagnostics.verify.subject import Subject
from diagnostics.verify.witness import Witness, watch
from multiheadattention import explicit_attention

N_STEPS = 4  # tokens that each text goes on by
N_SHARED = 40  # tokens of a common beginning: enough for Batch to read it once
WHY = reason(torch.float32)


@torch.inference_mode()
def cached(subject: Subject) -> Finding:
    """A text in pieces of several sizes and of one token, each token read once."""
    model, tokens = subject.model, subject.tokens
    cache = model.new_cache(len(tokens))
    with watch(model) as seen, explicit_attention():
        pieces = [model(piece, cache) for piece in tokens.split(piece_sizes(tokens.size(1)), dim=1)]
    seen.require_positions(tokens.numel())
    return Finding(largest(torch.cat(pieces, dim=1), subject.logits), subject.fp32_bound, WHY)


def piece_sizes(length: int) -> list[int]:
    """9 -> 4, 1, 1, 2, 1: a long beginning, then ones and twos, and no more than 16 pieces."""
    sizes = [max(1, length // 2)]
    while sum(sizes) < length:
        left = length - sum(sizes)
        few = (1, 1, 2)[(len(sizes) - 1) % 3]
        sizes.append(left if len(sizes) == 15 else min(left, few))
    return sizes


@torch.inference_mode()
def reused(subject: Subject) -> Finding:
    """A cache that has held another text: cleared, and later cut back to a common beginning."""
    model, (first, second) = subject.model, subject.tokens.split(1)
    n_kept, length = max(1, first.size(1) // 2), first.size(1)
    other = torch.cat([first[:, :n_kept], second[:, n_kept:]], dim=1)
    cache = model.new_cache(1)
    with watch(model) as seen, explicit_attention():
        model(second, cache)
        for layer in cache:
            layer.clear()
        found = [model(first, cache)]
        for layer in cache:
            layer.set_lengths([n_kept])
        found.append(model(other[:, n_kept:], cache))
    seen.require_positions(3 * length - n_kept)
    wanted = [subject.logits[:1], subject.logits_behind(other[0].tolist(), length - n_kept)[None]]
    difference = largest(torch.cat(found, dim=1), torch.cat(wanted, dim=1))
    return Finding(difference, subject.fp32_bound, WHY)


@torch.inference_mode()
def unequal(subject: Subject) -> Finding:
    """Short and long texts in one batch; one of them ends early."""
    longest = min(subject.tokens.size(1), subject.context_length - N_STEPS)
    if longest < 4:
        raise NotHere(f"a context of {subject.context_length} has no room to go on in")
    lengths = [longest // 2, longest, 1, 2]
    texts = [subject.text[7 * i : 7 * i + length] for i, length in enumerate(lengths)]
    together = go_on(subject, texts, keep=[0, 1, 3])
    together.seen.require_positions(4 * longest + 4 + 3 * (N_STEPS - 1))
    return together.finding


@torch.inference_mode()
def shared(subject: Subject) -> Finding:
    """Texts with one beginning, which is read once for all of them."""
    if subject.context_length < N_SHARED + 3 + N_STEPS:
        raise NotHere(f"a context of {subject.context_length} holds no beginning worth sharing")
    texts = [subject.text[:N_SHARED] + end for end in ([0], [1, 2, 0], [2, 1])]
    together = go_on(subject, texts, keep=[0, 1, 2])
    together.seen.require_positions(N_SHARED + 3 * 3 + 3 * N_STEPS)
    return together.finding


@torch.inference_mode()
def past_the_context(subject: Subject) -> Finding:
    """A text that outgrows the context, beside one that does not."""
    n = subject.context_length
    if n < 2 * N_STEPS:
        raise NotHere(f"a context of {n} moves on with every other token")
    together = go_on(subject, [subject.text[: n - 1], subject.text[-2:]], keep=[0, 1])
    # the text is padded once; when its window moves, all of it but the token to come is read again
    together.seen.require_positions(2 * (n - 1) + 2 * N_STEPS + n - n // 2)
    return together.finding


@dataclass(frozen=True)
class Together:
    """How far texts in a batch are from each alone, and what was read."""

    finding: Finding
    seen: Witness


def go_on(subject: Subject, texts: list[list[int]], keep: list[int]) -> Together:
    """Reads texts side by side, then N_STEPS tokens of each; after the first one some leave."""
    grown = [list(text) for text in texts]
    with watch(subject.model) as seen, explicit_attention():
        batch = Batch(subject.model, texts, N_STEPS)
        found = [batch.read()]
        states = [grown]
        for step in range(N_STEPS):
            if step == 1:
                batch.keep(keep)
                grown = [grown[row] for row in keep]
            tokens = [[subject.text[step + row]] for row in range(len(grown))]
            found.append(batch.step(torch.tensor(tokens, device=subject.device)))
            grown = [text + token for text, token in zip(grown, tokens, strict=True)]
            states.append(grown)
    wanted = [alone(subject, text) for state in states for text in state]
    difference = largest(torch.cat(found), torch.stack(wanted))
    return Together(Finding(difference, subject.fp32_bound, WHY), seen)


def alone(subject: Subject, text: list[int]) -> Tensor:
    """(V,): the logits behind one text, or behind the end of it that the model still sees."""
    window = text[window_start(len(text), subject.context_length) :]
    return subject.logits_behind(window)[0]
