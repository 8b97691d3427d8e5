"""GELU, the activation inside the feed-forward layer: a smooth gate that lets large inputs through.

    GELU(x) = x Phi(x) ~ x / 2 (1 + tanh(z / 2)) = x s,   z = sqrt(8 / pi) (x + 0.044715 x^3)
    GELU'(x) ~ s + s (1 - s) x z',                        s = sigmoid(z)

z is a line a and a cube c, so x z' = a + 3 c = 3 z - 2 a.
Phi is the normal distribution function. GPT-2 was trained with the tanh form, so the tanh form
it is: the exact one gives other logits.            Hendrycks and Gimpel 2016, section 2
Previous: cfg_gpt2.py.  Next: layer_norm.py.
"""

import math

import torch
from torch import Tensor, nn

SCALE = math.sqrt(8 / math.pi)  # z = a (1 + CUBE x^2),  a = SCALE x
CUBE = 0.044715


class GELU(nn.Module):
    """Gaussian Error Linear Unit, tanh form."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return Gate.apply(x)


class Gate(torch.autograd.Function):
    """The formula and its derivative. Autograd's own would keep four tensors, and take longer."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """x sigmoid(z). Kept for the backward pass: the derivative alone."""
        a = SCALE * x
        z = torch.addcmul(a, a, x * x, value=CUBE)
        if not ctx.needs_input_grad[0]:
            return x * z.sigmoid_()
        slope = a.lerp_(z, 3)  # x z' = 3 z - 2 a
        s = z.sigmoid_()
        derivative = torch.ops.aten.sigmoid_backward(slope, s)  # slope s (1 - s), in one pass
        ctx.save_for_backward(derivative.add_(s))
        return x * s

    @staticmethod
    def backward(ctx, *above: Tensor) -> Tensor:
        """The gradient by y -> the gradient by x."""
        (derivative,) = ctx.saved_tensors
        return derivative * above[0]
