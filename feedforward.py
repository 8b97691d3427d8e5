"""FeedForward: two linear layers with GELU between them, for each position by itself.

    FeedForward(x) = GELU(x W1 + b1) W2 + b2,   W1: C -> 4C,  W2: 4C -> C
                                                Vaswani et al. 2017, eq. 2, with GELU for ReLU
Two thirds of a block's parameters are here.
Previous: layer_norm.py.  Next: multiheadattention.py.
"""

from torch import Tensor, nn

from cfg_gpt2 import GPT2Config
from gelu import GELU


class FeedForward(nn.Module):
    """Linear, GELU, Linear: C channels become 4C, and C again."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.widen_proj = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = GELU()
        self.narrow_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.residual_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = self.widen_proj(x)  # (B, T, F)
        x = self.gelu(x)
        x = self.narrow_proj(x)  # (B, T, C)
        return self.residual_dropout(x)
