"""LayerNorm: every position gets mean 0 and variance 1 over its channels, then a learned scale.

    y = n * weight + bias,   n = (x - mean(x)) / sqrt(var(x) + eps)    Ba, Kiros and Hinton 2016

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
        return Normalize.apply(x.float(), self.weight, self.bias).to(x.dtype)


class Normalize(torch.autograd.Function):
    """The formula and its gradient. Autograd's own would keep and do twice as much.

        dL/dx = (g - mean(g) - n mean(g n)) / sqrt(var(x) + eps),   g = dL/dy * weight

    What is taken away again is what a change of x would do to the mean and to the variance.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(..., C), (C,), (C,) -> (..., C)."""
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)  # (..., 1)
        factor = torch.rsqrt(variance + EPS)  # (..., 1)
        n = centred.mul_(factor)  # (..., C)
        ctx.save_for_backward(n, factor, weight)
        y = n * weight
        return y if bias is None else y.add_(bias)

    @staticmethod
    def backward(ctx, *above: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradient by y -> those by x, weight and bias."""
        n, factor, weight = ctx.saved_tensors
        (by_y,) = above
        by_bias = by_y.sum_to_size(weight.shape) if ctx.needs_input_grad[2] else None
        g, g_n = by_y * weight, by_y * n
        by_weight = g_n.sum_to_size(weight.shape)
        along = (g_n * weight).mean(dim=-1, keepdim=True)
        by_x = g.sub_(g.mean(dim=-1, keepdim=True)).addcmul_(n, along, value=-1).mul_(factor)
        return by_x, by_weight, by_bias
