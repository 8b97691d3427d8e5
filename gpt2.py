"""GPT2Model: tokens in, for every position the scores of the next token out.

    x      = token_embedding[tokens] + position_embedding[0 .. T-1]
    x      = block(x), n_layer times
    logits = LayerNorm(x) token_embedding^T                  Radford et al. 2019, section 2.3

The output layer is the token embedding once more (tied): a token is read and written with the
same vector.
Previous: transformer_block.py.  Next: loss.py.
"""

import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cfg_gpt2 import CONFIG_FILE, GPT2Config, RunConfig, read_config, write_config, write_whole
from layer_norm import LayerNorm
from multiheadattention import KVCache
from transformer_block import TransformerBlock

WEIGHTS_FILE = "model.safetensors"


class GPT2Model(nn.Module):
    """The whole of GPT-2."""

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

    def forward(self, tokens: Tensor, cache: list[KVCache] | None = None) -> Tensor:
        """(B, T) -> (B, T, V). With a cache, tokens holds only the new positions.

        Raises ValueError where the positions go beyond context_length.
        """
        return self.lm_head(self.hidden_states(tokens, cache))  # (B, T, V)

    def hidden_states(self, tokens: Tensor, cache: list[KVCache] | None = None) -> Tensor:
        """(B, T) -> (B, T, C): the input of the output layer, after the last norm."""
        n_new = tokens.size(1)
        end = n_new + (cache[0].length if cache else 0)
        if end > self.config.context_length:
            raise ValueError(
                f"{end} tokens are more than context_length {self.config.context_length}; "
                "give the model the last ones only"
            )
        mask = None
        if cache:  # one mask, and the same positions, for every layer
            positions, mask = cache[0].positions(n_new), cache[0].mask(n_new)
        else:
            positions = torch.arange(n_new, device=tokens.device)  # (T,)
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # (B, T, C)
        x = self.embedding_dropout(x)
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i], mask) if cache else block(x)
        return self.final_norm(x)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws all weights anew: N(0, 0.02), biases 0, norms 1."""
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

    def new_cache(self, batch_size: int, n_positions: int | None = None) -> list[KVCache]:
        """One empty cache for each block, on the device and in the dtype of the activations.

        It has room for n_positions; None: for context_length.
        """
        return [
            KVCache(self.config, batch_size, n_positions, device=self.device, dtype=self.dtype)
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
        """Numbers that are trained; the tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def save(self, run_dir: str | Path, weights: dict[str, Tensor] | None = None) -> None:
        """Writes model.safetensors, whole or not at all, and config.json where there is none.

        weights: the parameters by name, as they were at some moment; None: as they are.
        """
        folder = Path(run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if weights is None:
            weights = {n: p.detach().contiguous() for n, p in self.named_parameters()}
        write_tensors(folder / WEIGHTS_FILE, weights)
        if not (folder / CONFIG_FILE).exists():
            write_config(folder, RunConfig(model=self.config))

    @classmethod
    def hollow(cls, config: GPT2Config) -> "GPT2Model":
        """A model whose weights have shapes, but neither memory nor values yet."""
        with torch.device("meta"), Undrawn():
            return cls(config)

    @classmethod
    def load(cls, run_dir: str | Path) -> "GPT2Model":
        """Reads what `save` wrote, for inference: in fp32, on the CPU, dropout off.

        Raises FileNotFoundError where a file is missing, ValueError where it does not fit.
        """
        folder = Path(run_dir)
        config = read_config(folder).model
        file = folder / WEIGHTS_FILE
        if not file.is_file():
            raise FileNotFoundError(f"{file} does not exist; train first, or name another run")
        model = cls.hollow(config)
        try:
            weights = load_file(file)
            model.load_state_dict(weights, strict=False, assign=True)
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{file} cannot be read: {reason}; copy or train it again") from None
        model.lm_head.weight = model.token_embedding.weight
        wanted = {name for name, _ in model.named_parameters()}
        if wanted != set(weights):
            names = ", ".join(sorted(wanted ^ set(weights))[:3])
            raise ValueError(f"{file} does not fit {CONFIG_FILE}: {names} missing or unknown")
        return model.float().eval()


class Undrawn(TorchFunctionMode):
    """Inside this context nothing is drawn at random.

    To draw numbers for tensors without memory, torch imports its compiler: 0.7 s for nothing.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Any function as it is, but for those that draw."""
        draws = func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
        return None if draws else func(*args, **(kwargs or {}))


def write_tensors(
    path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file, whole or not at all. Raises OSError where it cannot."""
    try:
        write_whole(path, lambda part: save_file(tensors, part, metadata=header))
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}; free some space") from None
