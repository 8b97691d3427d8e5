"""AdamW, with weight decay on matrices only.

    m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
    w = w - lr (m' / (sqrt(v') + eps) + decay w)        Loshchilov and Hutter 2019, algorithm 2

m' and v' are m and v corrected for having started at zero. Biases and the scales of the norms
are vectors and are not decayed: pulling a scale to zero would switch the norm off.
"""

import torch
from torch import nn

from cfg_gpt2 import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """All parameters that are trained, in two groups: decayed matrices, other tensors."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True
    )
