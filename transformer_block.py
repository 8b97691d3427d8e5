"""TransformerBlock: positions talk to each other, then each thinks for itself.

    x = x + Attention(LayerNorm(x))
    x = x + FeedForward(LayerNorm(x))                        Radford et al. 2019, section 2.3

The norms stand before the layers (pre-norm), so the residual stream runs from the embeddings to
the logits through additions alone, and gradients reach the first block undiminished.
Previous: multiheadattention.py.  Next: gpt2.py.
"""

from torch import Tensor, nn

from cfg_gpt2 import GPT2Config
from feedforward import FeedForward
from layer_norm import LayerNorm
from multiheadattention import KVCache, MultiHeadAttention


class TransformerBlock(nn.Module):
    """One of the n_layer identical blocks of GPT-2."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.n_embd, bias=config.bias)
        self.attention = MultiHeadAttention(config)
        self.feedforward_norm = LayerNorm(config.n_embd, bias=config.bias)
        self.feedforward = FeedForward(config)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C). With a cache, x holds only the new positions."""
        x = x + self.attention(self.attention_norm(x), cache)
        x = x + self.feedforward(self.feedforward_norm(x))
        return x
