"""Choice: from filtered logits to the next token, with each row's own random numbers."""

import torch
from torch import Tensor
from torch.nn import functional as F

from decoding.filters import Texts, edit_logits, shape_logits
from decoding.settings import SamplingConfig


def choose(
    logits: Tensor,
    prompts: Texts,
    written: Texts,
    config: SamplingConfig,
    generators: list[torch.Generator],
) -> Tensor:
    """(B, V) -> (B, 1), each row drawn with its own generator; temperature 0: the likeliest."""
    logits = edit_logits(logits, prompts, written, config)  # (B, V)
    if config.temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    probabilities = shape_logits(logits, config).softmax(dim=-1)  # (B, V)
    draws = zip(probabilities, generators, strict=True)
    return torch.stack([torch.multinomial(p, 1, generator=g) for p, g in draws])


def distribution(logits: Tensor, prompts: Texts, written: Texts, config: SamplingConfig) -> Tensor:
    """(B, V) -> (B, V): the probabilities that `choose` draws from; 0 and 1 at temperature 0."""
    logits = edit_logits(logits, prompts, written, config)  # (B, V)
    if config.temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.size(-1)).to(logits.dtype)
    return shape_logits(logits, config).softmax(dim=-1)
