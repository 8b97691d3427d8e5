"""Speculative decoding: cheap proposals for the next tokens, checked by the model in one pass.

A drafter proposes x_1 .. x_n, each drawn from its own distribution q_i. One pass of the model
gives the distributions p_i that it would have drawn from. Then, from left to right,

    x_i is accepted with probability min(1, p_i(x_i) / q_i(x_i));
    at the first rejection a token is drawn from max(0, p_i - q_i), scaled to sum 1, instead;
    if nothing is rejected, one more token is drawn from p_{n+1}.

The result is distributed exactly as the model's own text: a token is generated with probability
min(p, q) by the first line and max(0, p - q) by the second, together p. At temperature 0 all
distributions are 0 and 1, and the text is the greedy one.
                     Leviathan, Kalman, Matias 2023, section 2.3; Chen et al. 2023, algorithm 2
Previous: beam.py.  Next: engine.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from cfg_gpt2 import require
from decoding.batch import window_start
from decoding.logits_processors import require_finite
from decoding.ragged_cache import RaggedCache
from decoding.rows import RowState, TokenRow
from decoding.sampling import probabilities
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model


class Drafter(Protocol):
    """Proposes how a text continues."""

    def propose(
        self, row: TokenRow, n: int, config: SamplingConfig, generator: torch.Generator
    ) -> tuple[list[int], Tensor]:
        """Returns at most n tokens, and the distribution that each was drawn from: (T, V)."""
        ...


@dataclass(frozen=True)
class Continuation:
    """A row together with some proposed tokens, as logits processors read it."""

    prompt: Sequence[int]
    tokens: Sequence[int]


class Speculation:
    """A drafter, the number of its proposals per pass, and counts of how many were accepted."""

    def __init__(self, drafter: Drafter, n_proposals: int) -> None:
        self.drafter, self.n_proposals = drafter, n_proposals
        self.n_passes = self.n_proposed = self.n_accepted = 0

    def generate(self, model: GPT2Model, row: RowState, config: SamplingConfig) -> Iterator[None]:
        """Adds tokens to a row until it has ended; yields after each of them."""
        target = PrefixCachedModel(model, len(row.prompt) + config.max_new_tokens)
        while not row.is_done:
            for token, log_probability in self.next_tokens(target, row, config):
                row.add(token, log_probability, config)
                yield
                if row.is_done:
                    return

    def next_tokens(
        self, target: "PrefixCachedModel", row: RowState, config: SamplingConfig
    ) -> list[tuple[int, float]]:
        """Returns the tokens of one pass, each with its log-probability by the model."""
        text = [*row.prompt, *row.tokens]
        n_left = config.max_new_tokens - len(row.tokens) - 1  # the pass itself gives one more
        n = min(self.n_proposals, n_left, target.room(len(text)))
        proposed, q = self.drafter.propose(row, n, config, row.generator)
        logits = target.logits(text + proposed, len(proposed) + 1)  # (T, V)
        states = [
            Continuation(row.prompt, row.tokens + proposed[:i]) for i in range(len(proposed) + 1)
        ]
        p = probabilities(logits, states, config)  # (T, V)
        tokens = accept(proposed, q, p, row.generator)
        self.n_passes += 1
        self.n_proposed += len(proposed)
        self.n_accepted += len(tokens) - 1
        log_probabilities = logits.log_softmax(dim=-1)  # (T, V)
        return [(token, float(log_probabilities[i, token])) for i, token in enumerate(tokens)]


def accept(proposed: list[int], q: Tensor, p: Tensor, generator: torch.Generator) -> list[int]:
    """Returns the proposals up to the first rejection, and one token more.

    q has a row per proposal, p one row more.
    """
    for i, token in enumerate(proposed):
        u = torch.rand(1, generator=generator, device=p.device)
        if u * q[i, token] >= p[i, token]:
            rest = (p[i] - q[i]).clamp(min=0)
            if not rest.any():  # p and q are equal but for rounding
                rest = p[i]
            return [*proposed[:i], int(torch.multinomial(rest, 1, generator=generator))]
    return [*proposed, int(torch.multinomial(p[len(proposed)], 1, generator=generator))]


class PrefixCachedModel:
    """A model with the cache of one text, of which it reuses the prefix that is still the same."""

    def __init__(self, model: GPT2Model, n_tokens: int) -> None:
        self.model = model
        self.context_length = model.config.context_length
        self.cache = RaggedCache(model, 1, min(n_tokens, self.context_length))
        self.cached: list[int] = []  # the tokens that are in the cache

    def logits(self, text: list[int], n: int) -> Tensor:
        """Returns the logits behind each of the last n tokens, (T, V); all lie in one window."""
        window = text[window_start(len(text), self.context_length) :]
        n_equal = 0
        for cached, token in zip(self.cached, window[: len(window) - n], strict=False):
            if cached != token:
                break
            n_equal += 1
        self.cache.truncate([n_equal])
        self.cached = window[:n_equal]  # all that is left where Ctrl-C ends the pass below
        tokens = torch.tensor([window[n_equal:]], device=self.model.device)  # (1, T)
        if tokens.size(1) == n:
            logits = self.model(tokens, self.cache)[0].float()
        else:
            hidden_states = self.model.hidden_states(tokens, self.cache)
            logits = self.model.lm_head(hidden_states[0, -n:]).float()
        self.cached = window
        require_finite(logits)
        return logits

    def room(self, n_tokens: int) -> int:
        """Returns how many more tokens fit into the window of a text of n_tokens."""
        return self.context_length - n_tokens + window_start(n_tokens, self.context_length)


class DraftModel:
    """Drafter: a smaller model with the same vocabulary continues the text."""

    def __init__(self, model: GPT2Model, vocab_size: int) -> None:
        require(
            model.config.vocab_size == vocab_size,
            f"the draft model has {model.config.vocab_size} tokens, the model {vocab_size}; "
            "take one that was trained with the same tokenizer",
        )
        self.model = PrefixCachedModel(model, model.config.context_length)

    def propose(
        self, row: TokenRow, n: int, config: SamplingConfig, generator: torch.Generator
    ) -> tuple[list[int], Tensor]:
        """Draws at most n tokens, one after the other, up to a stop token."""
        proposed: list[int] = []
        q: list[Tensor] = []
        while len(proposed) < n and not {*proposed} & {*config.stop_tokens}:
            state = Continuation(row.prompt, [*row.tokens, *proposed])
            logits = self.model.logits([*state.prompt, *state.tokens], 1)
            q.append(probabilities(logits, [state], config))
            proposed.append(int(torch.multinomial(q[-1][0], 1, generator=generator)))
        return proposed, torch.cat(q) if q else torch.empty(0)


class PromptLookup:
    """Drafter: what followed the last tokens where they occurred before in the text.

    It costs nothing, and is often right where a text repeats itself.    Saxena 2023
    """

    def __init__(self, vocab_size: int, max_ngram: int = 3) -> None:
        self.vocab_size = vocab_size
        self.max_ngram = max_ngram  # tokens that are compared, at most

    def propose(
        self, row: TokenRow, n: int, config: SamplingConfig, generator: torch.Generator
    ) -> tuple[list[int], Tensor]:
        """Returns the tokens of `look_up`, each with probability 1."""
        proposed = self.look_up([*row.prompt, *row.tokens], n)
        tokens = torch.tensor(proposed, dtype=torch.long, device=generator.device)
        return proposed, F.one_hot(tokens, self.vocab_size).float()

    def look_up(self, text: list[int], n: int) -> list[int]:
        """Returns at most n tokens after the latest earlier occurrence of the longest n-gram."""
        for size in range(min(self.max_ngram, len(text) - 1), 0, -1):
            last = text[-size:]
            for start in range(len(text) - size - 1, -1, -1):
                if text[start : start + size] == last:
                    return text[start + size : start + size + n]
        return []
