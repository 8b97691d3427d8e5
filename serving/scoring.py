"""Scoring: how probable each token of a given text is, read piece by piece beside the batch.

    log p(token t | the tokens before it), for each token but the first

This is what echo with log-probabilities asks for, and with it lm-eval. A text has a cache of its
own, so that it needs no slot; between two pieces the rows of the batch go on.
Previous: slots.py.  Next: tickets.py.
"""

from concurrent.futures import Future

import torch
from torch import Tensor

from decoding.logits_processors import require_finite
from gpt2 import GPT2Model
from multiheadattention import KVCache

Top = tuple[tuple[int, float], ...]  # ids with their log-probabilities, the highest first


# Of each token but the first: its log-probability, and the most likely tokens there.
Scores = tuple[list[float], list[Top]]


class Scoring:
    """A text while it is scored; `future` gets its Scores."""

    def __init__(self, tokens: list[int], n_top: int) -> None:
        self.tokens, self.n_top = tokens, n_top
        self.future: Future[Scores] = Future()
        self.scores: Scores = ([], [])
        self.cache: list[KVCache] | None = None

    def read(self, model: GPT2Model, n_tokens: int) -> bool:
        """Scores the next n_tokens; returns whether more are left. A cancelled text has none.

        The logits of a diverged model are the future's ValueError.
        """
        if self.future.cancelled():
            return False
        n_done, n_wanted = len(self.scores[0]), len(self.tokens) - 1
        if self.cache is None and n_wanted:
            self.cache = model.new_cache(1, n_wanted)
        piece = self.tokens[n_done : min(n_done + n_tokens, n_wanted)]
        if piece:
            logits = model(torch.tensor([piece], device=model.device), self.cache)[0].float()
            try:
                require_finite(logits)
            except ValueError as error:
                self.fail(error)
                return False
            targets = self.tokens[n_done + 1 : n_done + 1 + len(piece)]
            self.add(logits.log_softmax(dim=-1), targets)
        if n_done + len(piece) < n_wanted:
            return True
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self.scores)
        return False

    def fail(self, error: Exception) -> None:
        """Ends the text with an error, where nobody has cancelled it."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def add(self, log_probabilities: Tensor, targets: list[int]) -> None:
        """Appends the scores of some tokens, (T, V) and T ids."""
        chosen = log_probabilities[range(len(targets)), targets]  # (T,)
        self.scores[0].extend(chosen.tolist())
        self.scores[1].extend(most_likely(row, self.n_top) for row in log_probabilities)


def most_likely(log_probabilities: Tensor, n: int) -> Top:
    """(V,) -> the n most likely tokens with their log-probabilities, the highest first."""
    if n == 0:
        return ()
    best = log_probabilities.topk(min(n, log_probabilities.numel()))
    return tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
