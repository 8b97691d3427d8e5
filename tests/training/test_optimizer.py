"""training/optimizer.py: which optimizer updates which parameter, and by the formula."""

from dataclasses import replace

import torch
from oracles.small_run import TRAIN

from cfg_gpt2 import GPT2Config
from gpt2 import GPT2Model
from training.optimizer import make_optimizers


def one_step(optimizer: str) -> tuple[GPT2Model, dict[str, torch.Tensor]]:
    """Returns a model after one step from random gradients, and its weights before."""
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(vocab_size=11, context_length=4, n_layer=1, n_head=2, n_embd=8))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizers = make_optimizers(model, replace(TRAIN, optimizer=optimizer))
    assert len(optimizers) == (1 if optimizer == "adamw" else 2)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for each in optimizers:
        each.step(TRAIN.learning_rate, torch.tensor(1.0))
    return model, before


def test_adamw_is_the_formula_and_decays_matrices_only() -> None:
    model, before = one_step("adamw")
    for name, parameter in model.named_parameters():
        g, w = parameter.grad, before[name]
        assert g is not None
        m, v = (1 - TRAIN.beta1) * g, (1 - TRAIN.beta2) * g * g
        corrected = m / (1 - TRAIN.beta1) / ((v / (1 - TRAIN.beta2)).sqrt() + 1e-8)
        decay = TRAIN.weight_decay if w.dim() == 2 else 0.0
        expected = w - TRAIN.learning_rate * (corrected + decay * w)
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-6, rtol=1e-5)


def test_muon_updates_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model, before = one_step("muon")
    adamw_model, _ = one_step("adamw")
    others = dict(adamw_model.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2 or not name.startswith("blocks."):
            assert torch.equal(parameter, others[name])
            continue
        decayed = before[name] * (1 - TRAIN.learning_rate * TRAIN.weight_decay)
        step = (decayed - parameter.detach()) / (0.2 * max(parameter.shape) ** 0.5)
        singular = torch.linalg.svdvals(step / TRAIN.learning_rate)
        # Muon's polynomial brings singular values near 1, between 0.7 and 1.2 by its design
        assert singular.min() > 0.6 and singular.max() < 1.3
