"""GPT2Model: tokens in, for every position the scores of the next token out.

    x      = token_embedding[tokens] + position_embedding[0 .. T-1]
    x      = block(x), n_layer times
    logits = LayerNorm(x) token_embedding^T                  Radford et al. 2019, section 2.3

The output layer is the token embedding once more (tied): a token is read and written with the
same vector.
Previous: transformer_block.py.  Next: loss.py.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cfg_gpt2 import GPT2Config
from layer_norm import LayerNorm
from multiheadattention import KVCache
from run_directory.weights import load_model, save_weights
from transformer_block import TransformerBlock


class GPT2Model(nn.Module):
    """Embeddings, n_layer blocks, a final norm, and the output layer that is tied to the tokens."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.context_length, config.n_embd)
        self.embedding_dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layer))
        self.final_norm = LayerNorm(config.n_embd, bias=config.bias)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.token_embedding.weight
        self.init_weights()

    def forward(self, tokens: Tensor, cache: Sequence[KVCache] | None = None) -> Tensor:
        """(B, T) -> (B, T, V). With a cache, tokens holds only the new positions.

        Raises ValueError where the positions go beyond context_length.
        """
        return self.lm_head(self.hidden_states(tokens, cache))  # (B, T, V)

    def hidden_states(self, tokens: Tensor, cache: Sequence[KVCache] | None = None) -> Tensor:
        """(B, T) -> (B, T, C): the input of the output layer, after the last norm."""
        n_new = tokens.size(1)
        end = n_new + (cache[0].length if cache else 0)
        if end > self.config.context_length:
            raise ValueError(
                f"{end} tokens are more than context_length {self.config.context_length}; "
                "give the model the last ones only"
            )
        if cache:
            positions = cache[0].positions(n_new)
        else:
            positions = torch.arange(n_new, device=tokens.device)  # (T,)
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # (B, T, C)
        x = self.embedding_dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i]) if cache else block(x)
        return self.final_norm(x)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights from N(0, 0.02); biases become 0, the norms' weights 1."""
        residual_std = 0.02 / math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            # 2 residual additions per block; the smaller std keeps variance flat with depth
            elif name.endswith(("out_proj.weight", "narrow_proj.weight")):
                nn.init.normal_(parameter, std=residual_std, generator=generator)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)

    def new_cache(self, batch_size: int, capacity: int | None = None) -> list[KVCache]:
        """Returns an empty cache per block, on the device and in the dtype of the activations.

        It has room for `capacity` positions; None: for context_length.
        """
        return [
            KVCache(self.config, batch_size, capacity, device=self.device, dtype=self.dtype)
            for _ in self.blocks
        ]

    @property
    def device(self) -> torch.device:
        """The device of the activations: that of the position embedding."""
        return self.position_embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the activations and of the cache: that of the position embedding."""
        return self.position_embedding.weight.dtype

    def n_parameters(self) -> int:
        """Returns the number of weights; the tied output layer counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save(self, run_dir: str | Path) -> None:
        """Writes the weights into a run directory. Raises OSError where that fails."""
        save_weights(Path(run_dir), self.config, dict(self.named_parameters()))

    @classmethod
    def load(cls, run_dir: str | Path) -> "GPT2Model":
        """Reads the weights of a run, for inference: in fp32, on the CPU, with dropout off.

        Raises FileNotFoundError where a file is missing, ValueError where it does not fit.
        """
        return load_model(cls, Path(run_dir))
