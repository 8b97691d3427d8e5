"""The optimizers: AdamW for everything, or Muon for the matrices of the blocks and AdamW beside it.

    m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
    w = w - lr (m' / (sqrt(v') + eps) + decay w)        Loshchilov and Hutter 2019, algorithm 2

m' and v' are m and v corrected for having started at zero. AdamW measures each weight by its own
gradients; Muon (muon.py) takes a matrix as what it is, a map. Their steps have the same size, so
both share one learning rate. Biases and the scales of the norms are vectors and are not decayed:
pulling a scale to zero would switch the norm off.
"""

import torch
from torch import Tensor

from cfg_gpt2 import TrainConfig
from gpt2 import GPT2Model
from training.muon import Muon


def make_optimizers(
    model: GPT2Model, config: TrainConfig, precision: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """One AdamW for everything, or Muon for the matrices of the blocks and AdamW for the rest."""
    trained = [p for p in model.parameters() if p.requires_grad]
    in_blocks = {id(p) for p in model.blocks.parameters()} if config.optimizer == "muon" else set()
    vectors = [p for p in trained if p.dim() < 2]
    orthogonal = [p for p in trained if p.dim() == 2 and id(p) in in_blocks]
    matrices = [p for p in trained if p.dim() == 2 and id(p) not in in_blocks]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
    if not orthogonal:
        return [adamw]
    return [adamw, Muon(orthogonal, config.learning_rate, config.weight_decay, precision)]


def step_optimizers(
    optimizers: list[torch.optim.Optimizer], learning_rate: float, divisor: Tensor
) -> None:
    """Moves the weights by their gradients / divisor, and forgets the gradients."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        divide_on_the_way(optimizer, divisor)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def divide_on_the_way(optimizer: torch.optim.Optimizer, divisor: Tensor) -> None:
    """Lets the optimizer's own pass divide the gradients: one pass over memory less.

    `grad_scale` is what torch's GradScaler gives to fused optimizers; on Apple's GPUs the fused
    kernel does not read it.
    """
    if divisor.device.type == "mps":
        moved = [p for group in optimizer.param_groups for p in group["params"]]
        torch._foreach_div_([p.grad for p in moved if p.grad is not None], divisor)
    else:
        setattr(optimizer, "grad_scale", divisor)  # noqa: B010  no attribute of every Optimizer
