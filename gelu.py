"""GELU, the activation inside the feed-forward layer: a smooth gate that lets large inputs through.

    GELU(x) = x Phi(x) ~ x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))

Phi is the distribution function of the standard normal distribution. GPT-2 was trained with the
tanh form; the exact form gives other logits.            Hendrycks and Gimpel 2016, section 2
Previous: cfg_gpt2.py.  Next: layer_norm.py.
"""

import math

from torch import Tensor, nn


class GELU(nn.Module):
    """Gaussian Error Linear Unit, tanh form."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + inner.tanh())
