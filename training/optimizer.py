"""The optimizers: AdamW for everything, or Muon for the matrices of the blocks and AdamW beside it.

AdamW (adamw.py) scales the step of each weight by its own gradients; Muon (muon.py) treats a
matrix as a linear map. Their steps have the same size, so both share one learning rate.
Previous: muon.py.  Next: guard.py.
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
    """Returns one AdamW, or AdamW and Muon, for the parameters of a model that are trained.

    precision is the dtype of Muon's matmuls.
    """
    trained: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    in_blocks = set[Tensor](model.blocks.parameters() if config.optimizer == "muon" else ())
    matrices = [p for p in trained if p.dim() == 2 and p in in_blocks]
    rest = [p for p in trained if p.dim() < 2 or p not in in_blocks]
    adamw = AdamW(rest, (config.beta1, config.beta2), config.weight_decay)
    if not matrices:
        return [adamw]
    return [adamw, Muon(matrices, config.weight_decay, precision)]


def step_optimizers(optimizers: Optimizers, learning_rate: float, grad_scale: Tensor) -> None:
    """Updates the parameters by their gradients / grad_scale, and drops the gradients."""
    for optimizer in optimizers:
        optimizer.step(learning_rate, grad_scale)
        for parameter in optimizer.parameters:
            parameter.grad = None
