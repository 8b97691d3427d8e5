"""GELU with its derivative written out, so that backward needs one saved tensor instead of four.

    GELU(x)  = x s,                  s = sigmoid(z),  z = sqrt(8 / pi) (x + 0.044715 x^3)
    GELU'(x) = s + s (1 - s) x z'

The first line is gelu.py's formula, because (1 + tanh(z / 2)) / 2 = sigmoid(z).
z = a + c with a linear and c cubic in x, so x z' = a + 3c = 3z - 2a: the derivative is made of
numbers that the forward pass has at hand. It is computed there and saved; backward multiplies.
Previous: __init__.py.  Next: layer_norm.py.
"""

import math

import torch
from torch import Tensor

from gelu import GELU

SCALE = math.sqrt(8 / math.pi)  # a = SCALE x
CUBIC = 0.044715  # z = a + CUBIC a x^2


class GELUKernel(GELU):
    """GELU with the gradient below."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return GELUFunction.apply(x)


class GELUFunction(torch.autograd.Function):
    """x sigmoid(z) and its gradient."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """Any shape -> the same shape. Saves the derivative, where a gradient is needed."""
        a = SCALE * x
        z = torch.addcmul(a, a, x * x, value=CUBIC)
        if not ctx.needs_input_grad[0]:
            return x * z.sigmoid_()
        slope = a.lerp_(z, 3)  # x z' = a + 3 (z - a)
        s = z.sigmoid_()
        derivative = torch.ops.aten.sigmoid_backward(slope, s)  # slope s (1 - s), in one pass
        ctx.save_for_backward(derivative.add_(s))
        return x * s

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Tensor:
        """dL/dy -> dL/dx."""
        (derivative,) = ctx.saved_tensors
        return derivative * grad_outputs[0]
