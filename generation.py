"""Generation: the model predicts the next token, the token is appended, and the model reads on.

    p = softmax(logits / temperature), perhaps cut to its most likely tokens; next token ~ p

`generate_tokens` is that loop for one text. `generate` and `stream` give the same tokens for many
texts side by side, with more settings and ways: decoding/ has the engine, from settings.py on.
Previous: load_data.py.  Next: trainer.py.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from decoding.batch import window_start
from decoding.engine import complete, generate_rows
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model

__all__ = ["SamplingConfig", "generate", "generate_tokens", "sample", "stream"]


@torch.inference_mode()
def generate_tokens(
    model: GPT2Model,
    prompt: list[int],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 1,
) -> Iterator[int]:
    """Yields the tokens that continue a prompt; each is computed when it is asked for.

    Keys and values stay in the cache, so every token is read once. There are no positions beyond
    context_length: when the context is full, its newer half is read again, from position 0 on.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    text, unread, cache = list(prompt), list(prompt), model.new_cache(batch_size=1)
    for _ in range(max_new_tokens):
        if cache[0].length + len(unread) > model.config.context_length:
            unread = text[window_start(len(text), model.config.context_length) :]
            cache = model.new_cache(batch_size=1)
        tokens = torch.tensor([unread], device=model.device)  # (1, T)
        logits = model(tokens, cache)[:, -1].float()  # (1, V)
        unread = [int(sample(logits, temperature, top_k, top_p, generator))]
        text += unread
        yield from unread


def sample(
    logits: Tensor,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator,
) -> Tensor:
    """(1, V) -> (1, 1): the most likely token at temperature 0, else one drawn at random.

    top_k leaves the k most likely tokens, top_p the smallest set of them that holds probability p.
    """
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits / temperature
    if top_k:
        ordered = logits.sort(descending=True).values  # (1, V)
        logits = logits.masked_fill(logits < ordered[:, :top_k].min(), -math.inf)
    if top_p:
        ordered = logits.sort(descending=True).values  # (1, V)
        p = ordered.softmax(dim=-1)  # (1, V)
        n_kept = int((p.cumsum(dim=-1) - p < top_p).sum())  # those before each hold less than p
        logits = logits.masked_fill(logits < ordered[:, n_kept - 1], -math.inf)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)


def generate(
    model: GPT2Model,
    prompts: list[list[int]],
    config: SamplingConfig,
    stop_token: int | None = None,
) -> list[list[int]]:
    """Returns the new tokens of each prompt, without the prompt and without stop_token.

    Prompt number i draws with config.seed + i, and its text does not depend on the others.
    Raises ValueError for an empty prompt, and for token ids that the model does not have.
    """
    return [row.tokens for row in complete(model, prompts, with_stop(config, stop_token))]


def stream(
    model: GPT2Model, prompt: list[int], config: SamplingConfig, stop_token: int | None = None
) -> Iterator[int]:
    """Yields the new tokens of one prompt, each as soon as it is chosen.

    Raises ValueError as `generate` does.
    """
    row, n_yielded = RowState(prompt=prompt, seed=config.seed), 0
    for _ in generate_rows(model, [row], with_stop(config, stop_token)):
        yield from row.tokens[n_yielded:]
        n_yielded = len(row.tokens)


def with_stop(config: SamplingConfig, stop_token: int | None) -> SamplingConfig:
    """Returns the settings with one more token that ends a text."""
    if stop_token is None:
        return config
    return replace(config, stop_tokens=(*config.stop_tokens, stop_token))
