"""training/adamw.py: torch's fused AdamW bit for bit, without what its class imports."""

import subprocess
import sys

import torch

from training.adamw import AdamW

BETAS = (0.9, 0.95)
SHAPES = (3, 4), (5,), (2, 2, 2)


def test_steps_are_those_of_torchs_own_class_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    groups = [
        {"params": [p for p in theirs if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in theirs if p.dim() == 1], "weight_decay": 0.0},
    ]
    one, other = AdamW(ours, BETAS, 0.1), torch.optim.AdamW(groups, betas=BETAS, fused=True)
    grad_scale = torch.tensor(3.0)
    setattr(other, "grad_scale", grad_scale)  # noqa: B010  how torch's GradScaler hands it over
    for step in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        if step == 2:
            ours[0].grad = theirs[0].grad = None  # a parameter that is left out for once
        for group in other.param_groups:
            group["lr"] = 0.1 / (step + 1)
        one.step(0.1 / (step + 1), grad_scale)
        other.step()
        assert all(map(torch.equal, ours, theirs))
    for p, q in zip(ours, theirs, strict=True):
        assert one.state[p].keys() == other.state[q].keys()  # so that older checkpoints resume
        assert all(torch.equal(one.state[p][key], value) for key, value in other.state[q].items())


def test_a_step_of_training_does_not_import_the_compiler() -> None:
    code = """
import sys, torch, trainer
from cfg_gpt2 import GPT2Config, TrainConfig
from gpt2 import GPT2Model
from training.optimizer import make_optimizers, step_optimizers

model = GPT2Model(GPT2Config(vocab_size=11, context_length=4, n_layer=1, n_head=2, n_embd=8))
optimizers = make_optimizers(model, TrainConfig(optimizer="muon"))
model(torch.zeros(1, 4, dtype=torch.int64)).sum().backward()
step_optimizers(optimizers, 1e-3, torch.tensor(1.0))
print("torch._dynamo" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stderr
