"""GELU, the activation inside the feed-forward layer: a smooth gate that lets large inputs through.

    GELU(x) = x Phi(x) ~ x / 2 (1 + tanh(z)) = x sigmoid(2 z)
    GELU'(x) ~ s + x s (1 - s) (2 z)',   s = sigmoid(2 z),   z = sqrt(2 / pi) (x + 0.044715 x^3)

Phi is the normal distribution function. GPT-2 was trained with the tanh form, so the tanh form
it is: the exact one gives other logits.            Hendrycks and Gimpel 2016, section 2
Read before: cfg_gpt2.py.  Read next: layer_norm.py.
"""

import math

import torch
from torch import Tensor, nn

SCALE = 2 * math.sqrt(2 / math.pi)
CUBE = SCALE * 0.044715  # 2 z = x (SCALE + CUBE x^2)


class GELU(nn.Module):
    """Gaussian Error Linear Unit, tanh form."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return Gate.apply(x)


class Gate(torch.autograd.Function):
    """The formula and its derivative. Autograd's own would keep one tensor more and take longer."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """x sigmoid(2 z)."""
        s = (x * x).mul_(CUBE).add_(SCALE).mul_(x).sigmoid_()
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, *above: Tensor) -> Tensor:
        """The gradient by y -> the gradient by x."""
        x, s = ctx.saved_tensors
        slope = (x * x).mul_(3 * CUBE).add_(SCALE)  # of 2 z
        return slope.mul_(x).mul_(1 - s).add_(1).mul_(s).mul_(above[0])  # s (1 + x (1 - s) slope)
