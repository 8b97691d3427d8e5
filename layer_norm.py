"""LayerNorm: every position gets mean 0 and variance 1 over its channels, then a learned scale.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias       Ba, Kiros and Hinton 2016

Mean and variance are taken over the channels of one position, so no position sees another.
Previous: gelu.py.  Next: feedforward.py.
"""

import torch
from torch import Tensor, nn

EPS = 1e-5  # GPT-2's; keeps a position of equal channels from dividing by zero


class LayerNorm(nn.Module):
    """Normalizes the last dimension, which has n_embd channels."""

    def __init__(self, n_embd: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))
        self.bias = nn.Parameter(torch.zeros(n_embd)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C). Computed in fp32, whatever the dtype of x, and returned in it."""
        wide = x.float()
        centered = wide - wide.mean(dim=-1, keepdim=True)
        variance = centered.square().mean(dim=-1, keepdim=True)  # (..., 1)
        y = centered * torch.rsqrt(variance + EPS) * self.weight  # (..., C)
        return (y if self.bias is None else y + self.bias).to(x.dtype)
