"""Speculative decoding: cheap guesses of the next tokens, checked all at once by the model.

A drafter guesses x_1 .. x_n, each drawn from its own distribution q_i. One pass of the model
gives the distributions p_i that it would have drawn from. Then, from left to right,

    x_i is accepted with probability min(1, p_i(x_i) / q_i(x_i));
    at the first refusal a token is drawn from max(0, p_i - q_i), scaled to sum 1, instead;
    if nothing is refused, one more token is drawn from p_{n+1}.

What comes out is distributed exactly as the model's own text: a token is written with
probability min(p, q) by the first line and max(0, p - q) by the second, together p. At
temperature 0 all distributions are 0 and 1, and the text is the greedy one.
                     Leviathan, Kalman, Matias 2023, section 2.3; Chen et al. 2023, algorithm 2
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from cfg_gpt2 import require
from decoding.batch import window_start
from decoding.choice import distribution
from decoding.ragged_cache import RaggedCache
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model


class Drafter(Protocol):
    """Guesses how a text goes on."""

    def guess(
        self,
        prompt: list[int],
        written: list[int],
        n: int,
        config: SamplingConfig,
        generator: torch.Generator,
    ) -> tuple[list[int], Tensor]:
        """At most n tokens, and the distribution that each was drawn from: (T, V)."""
        ...


class Speculation:
    """Lets a drafter guess, and counts how often it was right."""

    def __init__(self, drafter: Drafter, n_guesses: int) -> None:
        self.drafter, self.n_guesses = drafter, n_guesses
        self.n_passes = self.n_guessed = self.n_accepted = 0

    def write(
        self,
        model: GPT2Model,
        prompt: list[int],
        config: SamplingConfig,
        generator: torch.Generator,
    ) -> Iterator[tuple[int, float]]:
        """Yields each new token with its log-probability, the model's own and unfiltered."""
        reader = Reader(model, len(prompt) + config.max_new_tokens)
        written: list[int] = []
        while len(written) < config.max_new_tokens:
            text = prompt + written
            left = config.max_new_tokens - len(written) - 1  # one comes from the check itself
            n = min(self.n_guesses, left, reader.room(len(text)))
            guesses, q = self.drafter.guess(prompt, written, n, config, generator)
            logits = reader.logits(text + guesses, len(guesses) + 1)
            histories = [written + guesses[:i] for i in range(len(guesses) + 1)]
            p = distribution(logits, [prompt] * len(histories), histories, config)
            tokens = check(guesses, q, p, generator)
            self.n_passes += 1
            self.n_guessed += len(guesses)
            self.n_accepted += len(tokens) - 1
            own = logits.log_softmax(dim=-1)
            yield from [(token, float(own[i, token])) for i, token in enumerate(tokens)]
            written += tokens


def check(guesses: list[int], q: Tensor, p: Tensor, generator: torch.Generator) -> list[int]:
    """The guesses up to the first refusal, and one token more; p has one row more than q."""
    for i, token in enumerate(guesses):
        chance = torch.rand(1, generator=generator, device=p.device)
        if chance * q[i, token] >= p[i, token]:
            rest = (p[i] - q[i]).clamp(min=0)
            if not rest.any():  # p and q are equal but for rounding
                rest = p[i]
            return [*guesses[:i], int(torch.multinomial(rest, 1, generator=generator))]
    return [*guesses, int(torch.multinomial(p[len(guesses)], 1, generator=generator))]


class Reader:
    """One text and its cache: reads what is new in it, and forgets what has changed."""

    def __init__(self, model: GPT2Model, n_positions: int) -> None:
        self.model = model
        self.context_length = model.config.context_length
        self.cache = RaggedCache(model, 1, min(n_positions, self.context_length))
        self.window: list[int] = []  # the tokens that are in the cache

    def logits(self, text: list[int], n: int) -> Tensor:
        """The logits behind each of the last n tokens, which all lie in one window: (T, V)."""
        window = text[window_start(len(text), self.context_length) :]
        n_known = 0
        for known, token in zip(self.window, window[: len(window) - n], strict=False):
            if known != token:
                break
            n_known += 1
        self.cache.truncate([n_known])
        fresh = torch.tensor([window[n_known:]], device=self.cache[0].keys.device)
        self.window = window
        if fresh.size(1) == n:
            return self.model(fresh, self.cache)[0].float()
        hidden_states = self.model.hidden_states(fresh, self.cache)
        return self.model.lm_head(hidden_states[0, -n:]).float()

    def room(self, n_tokens: int) -> int:
        """How many more tokens fit into the window of a text of n_tokens."""
        return self.context_length - n_tokens + window_start(n_tokens, self.context_length)


class SmallModel:
    """Drafter: a smaller model with the same vocabulary, which writes on by itself."""

    def __init__(self, draft: GPT2Model, vocab_size: int) -> None:
        require(
            draft.config.vocab_size == vocab_size,
            f"the draft model has {draft.config.vocab_size} tokens, the model {vocab_size}; "
            "take one that was trained with the same tokenizer",
        )
        self.reader = Reader(draft, draft.config.context_length)

    def guess(
        self,
        prompt: list[int],
        written: list[int],
        n: int,
        config: SamplingConfig,
        generator: torch.Generator,
    ) -> tuple[list[int], Tensor]:
        guesses: list[int] = []
        rows: list[Tensor] = []
        while len(guesses) < n and not {*guesses} & {*config.stop_tokens}:
            so_far = written + guesses
            logits = self.reader.logits(prompt + so_far, 1)
            rows.append(distribution(logits, [prompt], [so_far], config))
            guesses.append(int(torch.multinomial(rows[-1][0], 1, generator=generator)))
        return guesses, torch.cat(rows) if rows else torch.empty(0)


class PromptLookup:
    """Drafter: what followed the last tokens when they stood in the text before.

    Costs nothing, and guesses well where a text repeats itself.    Saxena 2023
    """

    def __init__(self, vocab_size: int, longest: int = 3) -> None:
        self.vocab_size = vocab_size
        self.longest = longest  # tokens to recognize a place by

    def guess(
        self,
        prompt: list[int],
        written: list[int],
        n: int,
        config: SamplingConfig,
        generator: torch.Generator,
    ) -> tuple[list[int], Tensor]:
        guesses = self.look_up(prompt + written, n)
        certain = torch.tensor(guesses, dtype=torch.long, device=generator.device)
        return guesses, F.one_hot(certain, self.vocab_size).float()

    def look_up(self, text: list[int], n: int) -> list[int]:
        """What followed the latest place with the same last tokens, as many as possible."""
        for size in range(min(self.longest, len(text) - 1), 0, -1):
            last = text[-size:]
            for start in range(len(text) - size - 1, -1, -1):
                if text[start : start + size] == last:
                    return text[start + size : start + size + n]
        return []
