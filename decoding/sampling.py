"""Sampling: from processed logits to the next token, with each row's own random numbers.

Previous: logits_processors.py.  Next: ragged_cache.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from decoding.logits_processors import process_logits, warp_logits
from decoding.rows import RowState, TokenRow
from decoding.settings import SamplingConfig


def sample_rows(logits: Tensor, rows: Sequence[RowState], config: SamplingConfig) -> Tensor:
    """(B, V) -> (B, 1): each row's next token, drawn with its own generator.

    At temperature 0 it is the most likely token. Raises ValueError where no token is left.
    """
    logits = process_logits(logits, rows, config)  # (B, V)
    if config.temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    p = warp_logits(logits, config).softmax(dim=-1)  # (B, V)
    draws = zip(p, rows, strict=True)
    return torch.stack([torch.multinomial(q, 1, generator=row.generator) for q, row in draws])


def probabilities(logits: Tensor, rows: Sequence[TokenRow], config: SamplingConfig) -> Tensor:
    """(B, V) -> (B, V): what `sample_rows` draws from; at temperature 0 one token has all."""
    logits = process_logits(logits, rows, config)  # (B, V)
    if config.temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.size(-1)).to(logits.dtype)
    return warp_logits(logits, config).softmax(dim=-1)
