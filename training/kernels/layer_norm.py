"""LayerNorm with its gradient written out, so that backward saves and computes half as much.

    y = n weight + bias,   n = (x - mean(x)) rstd,   rstd = 1 / sqrt(var(x) + eps)

    dL/dbias   = sum of g over all positions                  g = dL/dy
    dL/dweight = sum of g n over all positions
    dL/dx      = rstd (h - mean(h) - n mean(h n))             h = g weight = dL/dn

Sums run over positions, means over the channels of one position. Where dL/dx comes from:

A change dx of the input changes the mean by mean(dx) and the variance by 2 rstd^-1 mean(n dx),
for var(x) = mean((x - mean(x))^2) and x - mean(x) = n / rstd. Hence

    d(x - mean(x)) = dx - mean(dx)
    d(rstd)        = -1/2 rstd^3 d(var) = -rstd^2 mean(n dx)
    dn             = rstd (dx - mean(dx)) + (n / rstd) d(rstd)
                   = rstd (dx - mean(dx) - n mean(n dx))

Up to the factor rstd, dn is dx without its components along the vector of ones and along n, for
neither a shift nor a scaling of x - mean(x) changes n. The matrix of this map,
rstd (I - 1 1^T / C - n n^T / C), is symmetric. So the map itself, applied to h, gives dL/dx.
Previous: gelu.py.  Next: linear.py.
"""

import torch
from torch import Tensor

from layer_norm import EPS, LayerNorm

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class LayerNormKernel(LayerNorm):
    """LayerNorm with the gradient below."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C). Computed in fp32, whatever the dtype of x, and returned in it."""
        return LayerNormFunction.apply(x.float(), self.weight, self.bias).to(x.dtype)


class LayerNormFunction(torch.autograd.Function):
    """The normalization, its scale and shift, and their gradients.

    forward must not end in an in-place operation: torch 2.11 compiles such a function without
    its gradient, and says nothing (pytorch issue 180642).
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(..., C), (C,), (C,) -> (..., C)."""
        centered = x - x.mean(dim=-1, keepdim=True)  # (..., C)
        variance = centered.square().mean(dim=-1, keepdim=True)  # (..., 1)
        rstd = torch.rsqrt(variance + EPS)  # (..., 1)
        n = centered.mul_(rstd)  # (..., C)
        ctx.save_for_backward(n, rstd, weight)
        y = n * weight  # (..., C)
        return y if bias is None else y + bias

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Gradients:
        """dL/dy -> dL/dx, dL/dweight, dL/dbias."""
        n, rstd, weight = ctx.saved_tensors
        (g,) = grad_outputs
        needs_input, needs_weight, needs_bias = ctx.needs_input_grad
        grad_bias = g.sum_to_size(weight.shape) if needs_bias else None
        h, g_n = g * weight, g * n  # (..., C)
        grad_weight = g_n.sum_to_size(weight.shape) if needs_weight else None
        if not needs_input:
            return None, grad_weight, grad_bias
        row_dot = (g_n * weight).mean(dim=-1, keepdim=True)  # (..., 1)
        grad_input = h.sub_(h.mean(dim=-1, keepdim=True)).addcmul_(n, row_dot, value=-1)  # (..., C)
        return grad_input.mul_(rstd), grad_weight, grad_bias
