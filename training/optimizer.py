"""The optimizers: AdamW for everything, or Muon for the matrices of the blocks and AdamW beside it.

AdamW (adamw.py) measures each weight by its own gradients; Muon (muon.py) takes a matrix as what
it is, a map. Their steps have the same size, so both share one learning rate.
"""

import torch
from torch import Tensor

from cfg_gpt2 import TrainConfig
from gpt2 import GPT2Model
from training.adamw import AdamW
from training.muon import Muon

Optimizers = list[AdamW | Muon]


def make_optimizers(
    model: GPT2Model, config: TrainConfig, precision: torch.dtype = torch.float32
) -> Optimizers:
    """One AdamW for everything, or Muon for the matrices of the blocks and AdamW for the rest."""
    trained: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    in_blocks = set[Tensor](model.blocks.parameters() if config.optimizer == "muon" else ())
    turned = [p for p in trained if p.dim() == 2 and p in in_blocks]
    rest = [p for p in trained if p.dim() < 2 or p not in in_blocks]
    adamw = AdamW(rest, (config.beta1, config.beta2), config.weight_decay)
    if not turned:
        return [adamw]
    return [adamw, Muon(turned, config.weight_decay, precision)]


def step_optimizers(optimizers: Optimizers, learning_rate: float, divisor: Tensor) -> None:
    """Moves the weights by their gradients / divisor, and forgets the gradients."""
    for optimizer in optimizers:
        optimizer.step(learning_rate, divisor)
        for parameter in optimizer.parameters:
            parameter.grad = None
