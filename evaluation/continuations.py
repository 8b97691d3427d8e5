"""The log-probability of a continuation, by which multiple choice and last words are scored.

    log p(continuation | context) = sum over its tokens of log p(token | context, tokens before it)
    greedy: each of its tokens is the most likely one

Context and continuation are encoded as one text and split where the context's own tokens end;
white space at the end of the context belongs to the continuation, as in lm-evaluation-harness. A
request that is longer than the model's context loses its beginning.
Previous: items.py.  Next: lambada.py.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data.windows import Window
from evaluation.score import Report, require_not_nan, rows_per_batch
from gpt2 import GPT2Model
from load_data import collate
from loss import IGNORE_INDEX
from tokenizer import Tokenizer
from training.kernels.cross_entropy import MAX_LOGITS
from training.runtime import Runtime


class Request(NamedTuple):
    """A context and the continuation that is scored, in tokens; neither is empty."""

    context: list[int]
    continuation: list[int]


class Likelihood(NamedTuple):
    """The log-probability of a continuation, and whether greedy decoding would produce it."""

    log_probability: float  # in nats
    greedy: bool


def encode_pairs(tokenizer: Tokenizer, pairs: list[tuple[str, str]]) -> list[Request]:
    """Encodes pairs of context and continuation; an empty context becomes <|endoftext|>.

    Raises UnseenCharacter, whose text is the pair's.
    """
    contexts = [context.rstrip() for context, _ in pairs]
    whole = tokenizer.encode_batch([context + continuation for context, continuation in pairs])
    context_ids = tokenizer.encode_batch(contexts)
    return [
        Request(context or [tokenizer.end_of_text], ids[len(context) :])
        for context, ids in zip(context_ids, whole, strict=True)
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
    """Returns the likelihood of each request, in order; the longest are computed first.

    report is called with the number of requests scored so far. A continuation must not be longer
    than the model's context. Raises ValueError where the model gives nan.
    """
    context_length = model.config.context_length
    rows = [(context + ids)[-context_length - 1 :] for context, ids in requests]
    results: dict[int, Likelihood] = {}
    for batch in length_sorted_batches(rows, runtime, batch_size):
        windows = [Window(np.array(rows[i]), 0, len(rows[i]) - 1) for i in batch]
        tokens, targets = collate(windows, context_length, end_of_text)
        for row, i in enumerate(batch):
            targets[row, : len(rows[i]) - 1 - len(requests[i].continuation)] = IGNORE_INDEX
        with runtime.autocast():
            hidden_states = model.hidden_states(runtime.to_device(tokens))
            scores = likelihoods(model, hidden_states, runtime.to_device(targets))
        results |= zip(batch, scores, strict=True)
        report(len(results))
    return [results[i] for i in range(len(rows))]


def length_sorted_batches(
    rows: list[list[int]], runtime: Runtime, batch_size: int | None
) -> Iterator[list[int]]:
    """Yields the indices of the rows in batches of similar length, the longest first."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    while order:
        size = batch_size or rows_per_batch(len(rows[order[0]]), runtime)
        batch, order = order[:size], order[size:]
        yield batch


def likelihoods(model: GPT2Model, hidden_states: Tensor, targets: Tensor) -> list[Likelihood]:
    """(B, T, C), (B, T) -> B likelihoods, over the targets that are not IGNORE_INDEX."""
    scored = targets != IGNORE_INDEX
    rows, ids_of_rows = hidden_states[scored], targets[scored]  # only these take the output layer
    n_rows = max(1, MAX_LOGITS // model.config.vocab_size)
    token_log_p, is_argmax = [], []
    for x, ids in zip(rows.split(n_rows), ids_of_rows.split(n_rows), strict=True):
        log_p = model.lm_head(x).log_softmax(dim=-1, dtype=torch.float32)
        token_log_p.append(log_p.gather(1, ids.unsqueeze(1)).squeeze(1))
        is_argmax.append(log_p.argmax(dim=1) == ids)
    counts = scored.sum(dim=1).tolist()
    sums = [part.sum().item() for part in torch.cat(token_log_p).cpu().double().split(counts)]
    greedy = [bool(part.all()) for part in torch.cat(is_argmax).cpu().split(counts)]
    require_not_nan(sum(sums))
    return [Likelihood(*pair) for pair in zip(sums, greedy, strict=True)]
