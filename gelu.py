"""GELU, the activation inside the feed-forward layer: a smooth gate that lets large inputs through.

    GELU(x) = x Phi(x) ~ x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))

Phi is the normal distribution function. GPT-2 was trained with the tanh form, so the tanh form
it is: the exact one gives other logits.            Hendrycks and Gimpel 2016, section 2
Read before: cfg_gpt2.py.  Read next: layer_norm.py.
"""

import math

import torch
from torch import Tensor, nn

SCALE = 2 * math.sqrt(2 / math.pi)


class GELU(nn.Module):
    """Gaussian Error Linear Unit, tanh form."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        # (1 + tanh(z)) / 2 = sigmoid(2 z), and fewer passes over memory
        twice_z = x * (SCALE + SCALE * 0.044715 * (x * x))
        return x * torch.sigmoid(twice_z)
