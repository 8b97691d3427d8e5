"""Generation: the model reads what it has written, chooses one more token, and reads again.

    p = softmax(logits / temperature), cut to the top_k likeliest tokens and to the smallest set
        of them that holds top_p of the probability; the next token is drawn from p

Temperature 0 takes the likeliest token. Each token is computed once: keys and values of earlier
positions stay in a cache. Positions are learned, so a model has no place for more than
context_length tokens. Longer texts go on by a window: when it is full, the older half is
forgotten and the newer half is read again from position 0.     Holtzman et al. 2020 for top_p
Read before: load_data.py.  Read next: trainer.py.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cfg_gpt2 import require
from gpt2 import GPT2Model


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How the next token is chosen, and when to stop."""

    max_new_tokens: int = 200  # stop after so many, if nothing else stops it
    temperature: float = 0.8  # 0: always the likeliest; 1: as the model says; higher: wilder
    top_k: int | None = None  # draw among the k likeliest tokens only
    top_p: float | None = None  # draw among the likeliest that together hold this probability
    seed: int = 1  # the same seed gives the same text

    def __post_init__(self) -> None:
        require(
            self.max_new_tokens >= 1, f"--max-new-tokens {self.max_new_tokens} must be 1 or more"
        )
        require(
            0 <= self.temperature < math.inf,
            f"--temperature {self.temperature} must be 0 (the likeliest token) or more; try 0.8",
        )
        require(
            self.top_k is None or self.top_k >= 1, f"--top-k {self.top_k} must be 1 or more; try 50"
        )
        require(
            self.top_p is None or 0 < self.top_p <= 1,
            f"--top-p {self.top_p} must be above 0 and at most 1; try 0.95",
        )


def generate(
    model: GPT2Model,
    prompts: list[list[int]],
    config: SamplingConfig,
    stop_token: int | None = None,
) -> list[list[int]]:
    """Prompts -> the new tokens of each, without the prompt and without stop_token.

    Prompt number i draws with seed + i. Prompts of one length are computed as one batch; the
    others, batch after batch, so that no row is padded and each comes out as if alone.
    Raises ValueError for an empty prompt.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    for length in {len(prompt) for prompt in prompts}:
        rows = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        done: set[int] = set()
        seeds = [config.seed + i for i in rows]
        for tokens in decode_rows(model, [prompts[i] for i in rows], config, seeds):
            for i, token in zip(rows, tokens, strict=True):
                if token == stop_token:
                    done.add(i)
                elif i not in done:
                    answers[i].append(token)
            if len(done) == len(rows):
                break
    return answers


def stream(
    model: GPT2Model, prompt: list[int], config: SamplingConfig, stop_token: int | None = None
) -> Iterator[int]:
    """Yields the new tokens of one prompt, each as soon as it is chosen."""
    for (token,) in decode_rows(model, [prompt], config, [config.seed]):
        if token == stop_token:
            return
        yield token


@torch.inference_mode()
def decode_rows(
    model: GPT2Model, prompts: list[list[int]], config: SamplingConfig, seeds: list[int]
) -> Iterator[list[int]]:
    """Yields one new token for each of the prompts, which all have the same length."""
    require(len(prompts[0]) > 0, "the prompt is empty; give at least one token to go on from")
    device = model.token_embedding.weight.device
    generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
    context_length = model.config.context_length
    text = torch.tensor(prompts, device=device)  # (B, T)
    cache = model.new_cache(batch_size=len(prompts))
    fresh = text[:, window_start(text.size(1), context_length) :]  # (B, T)
    for _ in range(config.max_new_tokens):
        logits = model(fresh, cache)[:, -1]  # (B, V)
        token = choose(logits.float(), config, generators)  # (B, 1)
        yield token.flatten().tolist()
        text = torch.cat([text, token], dim=1)  # (B, T)
        fresh = token
        if cache[0].length == context_length:
            fresh = text[:, window_start(text.size(1), context_length) :]
            for layer in cache:
                layer.clear()


def window_start(n_tokens: int, context_length: int) -> int:
    """The first of n_tokens that the model still sees: it moves on by half a context at a time."""
    step = max(1, context_length // 2)
    return math.ceil(max(0, n_tokens - context_length) / step) * step


def choose(
    logits: Tensor, config: SamplingConfig, generators: list[torch.Generator]
) -> Tensor:
    """(B, V) -> (B, 1), each row drawn with its own generator."""
    if config.temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = keep_top_k(logits / config.temperature, config.top_k)
    probabilities = keep_top_p(logits.softmax(dim=-1), config.top_p)  # (B, V)
    draws = zip(probabilities, generators, strict=True)
    return torch.stack([torch.multinomial(p, 1, generator=g) for p, g in draws])


def keep_top_k(logits: Tensor, top_k: int | None) -> Tensor:
    """(B, V) -> (B, V), -inf for all but the top_k likeliest."""
    if top_k is None or top_k >= logits.size(-1):
        return logits
    smallest_kept = logits.topk(top_k).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest_kept, -math.inf)


def keep_top_p(probabilities: Tensor, top_p: float | None) -> Tensor:
    """(B, V) -> (B, V), 0 outside the smallest set of likeliest tokens that holds top_p."""
    if top_p is None or top_p == 1:
        return probabilities
    ordered, order = probabilities.sort(descending=True)
    before = ordered.cumsum(dim=-1) - ordered  # what the likelier tokens hold together
    return probabilities.scatter(-1, order, ordered.masked_fill(before >= top_p, 0))
