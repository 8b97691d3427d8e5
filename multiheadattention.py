"""Causal self-attention: each position gathers from itself and the positions before it.

    Attention(Q, K, V) = softmax(Q K^T / sqrt(D) + causal mask) V     Vaswani et al. 2017, eq. 1

GPT-2 runs H heads side by side on D = C / H channels each, then mixes them once.
Two ways compute the same thing: the formula written out, and torch's fused kernel, which never
holds the T x S weights in memory. The kernel runs; `explicit_attention()` chooses the formula.
Previous: feedforward.py.  Next: transformer_block.py.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import GPT2Config

_explicit = False  # whether explicit_attention() is on; a plain flag, which torch.compile can read


class MultiHeadAttention(nn.Module):
    """H heads of causal self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.qkv_proj = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.causal_softmax = CausalSoftmax()
        self.attention_dropout = nn.Dropout(config.dropout)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: "KVCache | None" = None) -> Tensor:
        """(B, T, C) -> (B, T, C). With a cache, x holds only the new positions."""
        q, k, v = self.qkv_proj(x).chunk(3, dim=-1)  # (B, T, C)
        q, k, v = map(self.split_heads, (q, k, v))  # (B, H, T, D)
        mask = None  # which stands for the causal mask
        if cache is not None:
            mask = cache.mask(x.size(1))
            k, v = cache.append(k, v)  # (B, H, S, D)
        attend = self.attend_explicit if _explicit else self.attend_fused
        heads = attend(q, k, v, mask)  # (B, H, T, D)
        x = heads.transpose(1, 2).flatten(start_dim=2)  # (B, T, C)
        return self.residual_dropout(self.out_proj(x))

    def split_heads(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, H, T, D)."""
        return x.unflatten(-1, (self.n_head, -1)).transpose(1, 2)

    def attend_explicit(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """(B, H, T, D), (B, H, S, D), (B, H, S, D) -> (B, H, T, D): the formula, line by line."""
        q = q / math.sqrt(q.size(-1))  # before the product, where there are fewer numbers
        scores = q @ k.transpose(-2, -1)  # (B, H, T, S)
        weights = self.causal_softmax(scores, mask)  # (B, H, T, S)
        return self.attention_dropout(weights) @ v  # (B, H, T, D)

    def attend_fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """The same in one kernel, which walks over the keys and keeps a running softmax."""
        n_new, n_keys = q.size(-2), k.size(-2)
        is_causal = mask is None and n_new == n_keys
        if mask is None and 1 < n_new < n_keys:
            # is_causal would align the mask to the first key, not the last
            mask = causal_mask(n_new, n_keys, like=q)
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.attention_dropout.p if self.training else 0.0,
            is_causal=is_causal,
        )


class CausalSoftmax(nn.Module):
    """Scores to weights. A module of its own, so that a forward hook can read the weights."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, H, T, S) -> (B, H, T, S); each row sums to 1, and is 0 for later positions."""
        if mask is None:
            mask = causal_mask(*scores.shape[-2:], like=scores)  # (T, S)
        return (scores + mask).softmax(dim=-1)


class KVCache:
    """The keys and values of the positions that one attention layer has read.

    The caller owns one per layer. Its memory, 2 * B * H * capacity * D numbers, is taken at once.
    """

    def __init__(
        self,
        config: GPT2Config,
        batch_size: int,
        capacity: int | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (batch_size, config.n_head, capacity or config.context_length, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0  # positions that are cached, S

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Two of (B, H, T, D) -> two of (B, H, S, D): the new positions behind the cached ones.

        Raises ValueError where the cache is full.
        """
        start = self.length
        self.advance(k.size(-2))
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def advance(self, n_new: int) -> None:
        """Counts n_new more positions. Raises ValueError where the cache is full."""
        end, capacity = self.length + n_new, self.keys.size(-2)
        if end > capacity:
            raise ValueError(f"the cache has room for {capacity} positions, {end} were asked for")
        self.length = end

    def positions(self, n_new: int) -> Tensor:
        """Returns the positions of the next n_new tokens, (T,)."""
        return self.length + torch.arange(n_new, device=self.keys.device)

    def mask(self, n_new: int) -> Tensor | None:
        """Returns the mask of the next n_new queries; None: the causal mask."""
        return None


def causal_mask(n_new: int, n_keys: int, like: Tensor) -> Tensor:
    """-> (T, S): 0 where a query may look, -inf after it.

    The queries are the last n_new of n_keys positions.
    """
    later = torch.full((n_new, n_keys), -math.inf, dtype=like.dtype, device=like.device)
    return later.triu(diagonal=n_keys - n_new + 1)


@contextmanager
def explicit_attention() -> Iterator[None]:
    """Inside this context every MultiHeadAttention of the process runs the written-out formula."""
    global _explicit
    before, _explicit = _explicit, True
    try:
        yield
    finally:
        _explicit = before
