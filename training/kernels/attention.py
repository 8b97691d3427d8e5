"""Attention in bf16 on a CPU: the formula for short texts, and a gradient in tiles for long ones.

Up to 512 keys the formula is faster than PyTorch's fused kernel. Beyond that the kernel is, but
its gradient can be computed faster, a tile of queries and keys at a time, where blocks are
compiled for a processor with matrix tiles (AMX):

    P  = exp(Q K^T / sqrt(D) - L)              L: log-sum-exp of each row of scores, saved
    dV = P^T dO,   dS = P * (dO V^T - rowsum(dO * O)) / sqrt(D)
    dQ = dS K,     dK = dS^T Q                 FlashAttention, Dao et al. 2022, algorithm 4

O is the output, dO is dL/dO, and so on. Tiles above the diagonal are left out. A row of P is
divided by its sum once more, for L comes from scores in fp32, and these are in bf16.
Previous: linear.py.  Next: cross_entropy.py.
"""

import math
from functools import reduce

import torch
from torch import Tensor

from multiheadattention import MultiHeadAttention

SHORT = 512  # keys up to which the formula is faster than the fused kernel, in bf16 on a CPU
TILE_SIZE = 256  # queries, and keys, of a tile: those of all heads of two windows fit the caches
MAX_TILES = 4  # tiles along a window; longer windows get larger tiles, and compile as quickly


def prefers_explicit(k: Tensor) -> bool:
    """Returns whether the formula is faster than the fused kernel for keys (B, H, S, D)."""
    return k.device.type == "cpu" and k.dtype == torch.bfloat16 and k.size(-2) <= SHORT


class ShortAttention(MultiHeadAttention):
    """Causal self-attention that computes short texts by the formula, in bf16 on a CPU."""

    def attend_fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, H, T, D), (B, H, S, D), (B, H, S, D) -> (B, H, T, D)."""
        if prefers_explicit(k):
            return self.attend_explicit(q, k, v, mask)
        return super().attend_fused(q, k, v, mask)


class TiledAttention(ShortAttention):
    """ShortAttention whose fused kernel has the gradient below, in bf16 and without dropout."""

    def attend_fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, H, T, D), (B, H, S, D), (B, H, S, D) -> (B, H, T, D)."""
        dropout = self.training and self.attention_dropout.p > 0
        plain = q.dtype != torch.bfloat16 or q.shape != k.shape or mask is not None or dropout
        if plain or prefers_explicit(k):
            return super().attend_fused(q, k, v, mask)
        return TiledAttentionFunction.apply(q, k, v)


class TiledAttentionFunction(torch.autograd.Function):
    """PyTorch's fused causal attention for a CPU, with its gradient in tiles."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, T, D), (B, H, T, D), (B, H, T, D) -> (B, H, T, D)."""
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, log_sum_exp = fused(q, k, v, is_causal=True)
        ctx.save_for_backward(q, k, v, output, log_sum_exp)
        return output

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dL/dO -> dL/dQ, dL/dK, dL/dV."""
        return attention_gradients(*ctx.saved_tensors, *grad_outputs)


def attention_gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    log_sum_exp: Tensor,
    grad_output: Tensor,
    *,
    tile_size: int = TILE_SIZE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns dL/dQ, dL/dK and dL/dV of causal attention, each (B, H, T, D).

    log_sum_exp is (B, H, T), all other arguments are (B, H, T, D).
    """
    scale = 1 / math.sqrt(q.size(-1))
    row_dot = (grad_output.float() * output.float()).sum(dim=-1, keepdim=True)  # (B, H, T, 1)
    size = max(tile_size, -(-q.size(-2) // MAX_TILES))

    def split(x: Tensor) -> list[Tensor]:
        return [part.contiguous() for part in x.split(size, dim=-2)]

    of_queries = q, grad_output, log_sum_exp.unsqueeze(-1), row_dot
    queries = list(zip(*map(split, of_queries), strict=True))
    keys = list(zip(*map(split, (k, v)), strict=True))
    grad_q, grad_k, grad_v = ([[] for _ in keys] for _ in range(3))  # by tile, to be summed
    for i, (q_i, grad_i, log_sum_exp_i, row_dot_i) in enumerate(queries):
        tiles = [((q_i @ k_j.mT).float() * scale - log_sum_exp_i).exp() for k_j, _ in keys[: i + 1]]
        tiles[i] = tiles[i].tril()
        row_sum = sum(tile.sum(dim=-1, keepdim=True) for tile in tiles)
        for j, (tile, (k_j, v_j)) in enumerate(zip(tiles, keys, strict=False)):
            p = tile / row_sum
            grad_scores = (p * ((grad_i @ v_j.mT).float() - row_dot_i) * scale).to(q.dtype)
            grad_v[j].append(p.to(q.dtype).mT @ grad_i)
            grad_q[i].append(grad_scores @ k_j)
            grad_k[j].append(grad_scores.mT @ q_i)
    return join_tiles(grad_q, q.dtype), join_tiles(grad_k, q.dtype), join_tiles(grad_v, q.dtype)


def join_tiles(tiles: list[list[Tensor]], dtype: torch.dtype) -> Tensor:
    """Adds up in fp32 what the tiles contribute to each stretch of positions, and joins them."""
    sums = [reduce(torch.add, (tile.float() for tile in row)) for row in tiles]
    return torch.cat([part.to(dtype) for part in sums], dim=-2)
