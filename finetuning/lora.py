"""LoRA: each matrix stays as it is, and the product of two thin ones is learned beside it.

    W x + (alpha / r) B A x,    A: in -> r,  B: r -> out          Hu et al. 2021, section 4.1

A begins random and B at zero, so the first step begins with the model as it was. W is frozen: it
gets no gradient, and the optimizer keeps no moments of it. Merging adds (alpha / r) B A to W, after
which the model is a plain one. Embeddings and head stay as they are: they are one tensor.
Previous: lora_settings.py.  Next: adapter_files.py.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import require
from finetuning.lora_settings import LoraConfig
from gpt2 import GPT2Model

A, B = "lora_A", "lora_B"  # the names of what a LoraLinear learns


class LoraLinear(nn.Module):
    """A frozen linear layer with a learned product of rank r beside it.

    The frozen one stays a plain nn.Linear, so that a kernel can take its place.
    """

    def __init__(self, base: nn.Linear, config: LoraConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.lora_A = nn.Parameter(base.weight.new_empty(config.rank, base.in_features))
        self.lora_B = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))
        self.dropout = nn.Dropout(config.dropout)
        self.scale = config.scale
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5), generator=generator)  # as peft

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        low_rank = F.linear(self.dropout(x), self.lora_A) * self.scale  # (..., r)
        return self.base(x) + F.linear(low_rank, self.lora_B)  # (..., out)


def add_lora(model: GPT2Model, config: LoraConfig, seed: int) -> None:
    """Freezes a model and puts a LoraLinear in the place of every target, in place.

    It comes before Runtime.prepare, which attaches kernels and compiles. Raises ValueError where
    the rank is larger than a matrix can have.
    """
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for name, layer in list(model.blocks.named_modules()):
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in config.targets:
            full = min(layer.weight.shape)
            require(
                config.rank <= full,
                f"--lora.rank {config.rank} is more than the rank {full} that {name} has at most; "
                f"choose at most {full}",
            )
            model.blocks.set_submodule(name, LoraLinear(layer, config, generator))


def merge(
    weights: dict[str, Tensor], adapter: Mapping[str, Tensor], config: LoraConfig
) -> dict[str, Tensor]:
    """Merges an adapter into the base's weights, in place and in fp32, and returns them.

    Both are by name; adapter holds A and B of every target, as a model with LoRA names them.
    """
    for name, lora_A in adapter.items():
        if name.endswith(A):
            lora_B, matrix = adapter[name.removesuffix(A) + B], name.removesuffix(A) + "weight"
            weights[matrix] = weights[matrix].float()
            weights[matrix].addmm_(lora_B.float(), lora_A.float(), alpha=config.scale)
    return weights
