"""The log-probability of a continuation: what multiple choice and last words are scored by.

    log p(continuation | context) = sum over its tokens of log p(token | context, tokens before it)
    greedy: each of its tokens is the likeliest one

Context and continuation are encoded as one text and cut where the context's own tokens end, white
space at the end of the context going to the continuation: so does lm-evaluation-harness. What is
longer than the model's context loses its beginning.
Previous: score.py.  Next: items.py.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.windows import Window
from evaluation.score import Report, require_number, rows_at_a_time
from gpt2 import GPT2Model
from load_data import collate
from loss import IGNORE_INDEX, PRODUCT
from tokenizer import Tokenizer
from training.runtime import Runtime


class Request(NamedTuple):
    """What is scored, in tokens; neither is empty."""

    context: list[int]
    continuation: list[int]


class Likelihood(NamedTuple):
    """What the model thinks of a continuation."""

    log_probability: float  # in nats
    greedy: bool  # whether it is what the model would have written


def encode_pairs(tokenizer: Tokenizer, pairs: list[tuple[str, str]]) -> list[Request]:
    """Contexts and continuations -> their tokens; an empty context becomes <|endoftext|>.

    Raises UnseenCharacter, whose text is the pair's.
    """
    contexts = [context.rstrip() for context, _ in pairs]
    whole = tokenizer.encode_batch([context + continuation for context, continuation in pairs])
    begun = tokenizer.encode_batch(contexts)
    return [
        Request(context or [tokenizer.end_of_text], ids[len(context) :])
        for context, ids in zip(begun, whole, strict=True)
    ]


@torch.inference_mode()
def score_continuations(
    model: GPT2Model,
    requests: list[Request],
    runtime: Runtime,
    end_of_text: int,
    report: Report,
    batch_size: int | None = None,
) -> list[Likelihood]:
    """Each request's likelihood, in their order; the longest are computed first.

    The continuations must not be longer than the model's context.
    """
    context_length = model.config.context_length
    rows = [(context + ids)[-context_length - 1 :] for context, ids in requests]
    found: dict[int, Likelihood] = {}
    for batch in by_length(rows, runtime, batch_size):
        windows = [Window(np.array(rows[i]), 0, len(rows[i]) - 1) for i in batch]
        tokens, targets = collate(windows, context_length, end_of_text)
        for row, i in enumerate(batch):
            targets[row, : len(rows[i]) - 1 - len(requests[i].continuation)] = IGNORE_INDEX
        with runtime.autocast():
            hidden_states = model.hidden_states(runtime.to_device(tokens))
            scores = likelihoods(model, hidden_states, runtime.to_device(targets))
        found |= zip(batch, scores, strict=True)
        report(len(found))
    return [found[i] for i in range(len(rows))]


def by_length(
    rows: list[list[int]], runtime: Runtime, batch_size: int | None
) -> Iterator[list[int]]:
    """The numbers of the rows in batches of similar length, the longest first."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    while order:
        size = batch_size or rows_at_a_time(len(rows[order[0]]), runtime)
        batch, order = order[:size], order[size:]
        yield batch


def likelihoods(model: GPT2Model, hidden_states: Tensor, targets: Tensor) -> list[Likelihood]:
    """(B, T, C), (B, T) -> B likelihoods, over the targets that count."""
    scored = targets != IGNORE_INDEX
    rows, wanted = hidden_states[scored], targets[scored]  # only these take the output layer
    n_rows = max(1, PRODUCT // model.config.vocab_size)
    of_tokens, likeliest = [], []
    for x, ids in zip(rows.split(n_rows), wanted.split(n_rows), strict=True):
        log_p = model.lm_head(x).log_softmax(dim=-1, dtype=torch.float32)
        of_tokens.append(log_p.gather(1, ids.unsqueeze(1)).squeeze(1))
        likeliest.append(log_p.argmax(dim=1) == ids)
    counts = scored.sum(dim=1).tolist()
    sums = [part.sum().item() for part in torch.cat(of_tokens).cpu().double().split(counts)]
    greedy = [bool(part.all()) for part in torch.cat(likeliest).cpu().split(counts)]
    require_number(sum(sums))
    return [Likelihood(*pair) for pair in zip(sums, greedy, strict=True)]
