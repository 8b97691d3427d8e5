"""The two optimizers: AdamW, and Muon for the matrices of the blocks.

    AdamW   m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
            w = w - lr (m' / (sqrt(v') + eps) + decay w)    Loshchilov and Hutter 2019, algorithm 2

    Muon    m = 0.95 m + 0.05 g                O = the orthogonal matrix nearest to m
            W = W - lr (0.2 sqrt(max(rows, columns)) O + decay W)      Jordan 2024; Liu et al. 2025

m' and v' are m and v corrected for having started at zero. AdamW measures each weight by its own
gradients; Muon takes a matrix as what it is, a map, and moves it equally far in all directions.
The factor 0.2 sqrt(...) gives Muon's steps the size of AdamW's, so both share one learning rate.
Biases and the scales of the norms are vectors and are not decayed: pulling a scale to zero would
switch the norm off.
"""

import torch

from cfg_gpt2 import TrainConfig
from gpt2 import GPT2Model


def make_optimizers(model: GPT2Model, config: TrainConfig) -> list[torch.optim.Optimizer]:
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
    muon = torch.optim.Muon(
        orthogonal,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [adamw, muon]
