"""The loss: how many nats the model pays for each next token.

    loss = -log softmax(logits)[target],   the mean over all targets
    bits per byte = nats / (ln 2 * bytes of the text);   perplexity = exp(loss)

A token's loss depends on the tokenizer (long tokens are hard to guess, but few); bits per byte
does not, so it compares models with different vocabularies.           Shannon 1948; Gao et al. 2020
Previous: gpt2.py.  Next: tokenizer.py.
"""

import math

from torch import Tensor
from torch.nn import functional as F

IGNORE_INDEX = -100  # a target with this value does not count


def next_token_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, V), (B, T) -> the sum of losses in nats and the number of targets, two scalars.

    Sum and count stay apart, so that batches, accumulation steps and processes can be added
    up exactly and divided once.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    return total, (targets != IGNORE_INDEX).sum()


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Returns the code length, in bits per byte, of a text of n_bytes that costs a model `nats`."""
    return nats / (math.log(2) * n_bytes)


def perplexity(nats_per_token: float) -> float:
    """Returns the number of equally likely tokens that are as hard to guess; inf past 1e308."""
    return math.exp(nats_per_token) if nats_per_token < 709 else math.inf
