"""The parts of a training step against their formulas: padding, optimizers, checkpoint.

Previous: generation.py.  Next: backends.py.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cfg_gpt2 import TrainConfig
from data.windows import Window
from diagnostics.verify.comparison import Comparison, closest_to_bound
from diagnostics.verify.gradients import NamedTensors
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import (
    SAFETY,
    explain_bound,
    max_abs_diff,
    perturb,
    unit_roundoff,
)
from gpt2 import GPT2Model
from load_data import collate
from loss import next_token_loss
from multiheadattention import explicit_attention
from trainer import language_model_loss
from training.checkpoint import (
    read_checkpoint,
    restore,
    tensors_of,
    write_checkpoint,
)
from training.muon import COEFFICIENTS, EPS, ITERATIONS, MOMENTUM
from training.optimizer import Optimizers, make_optimizers, step_optimizers
from training.random_state import random_states, set_random_states

FP32 = torch.float32
LEARNING_RATE = 1e-2
N_STEPS = 3
N_TARGETS = torch.tensor(7.0)  # divides the gradients, as if so many targets had been counted


# Padding ------------------------------------------------------------------------------------


@torch.no_grad()
def padded_windows(under_test: ModelUnderTest) -> Comparison:
    """Compares the loss of windows of unequal lengths, padded to one, with each window alone."""
    length = under_test.tokens.size(1)
    sizes = (length - 1, max(1, length // 3), 1)
    stream = np.array(under_test.text)
    windows = [Window(stream, start, size) for start, size in enumerate(sizes)]
    batch = collate(windows, under_test.context_length, under_test.tokenizer.end_of_text)
    tokens, targets = (part.to(under_test.device) for part in batch)
    plain = torch.zeros((), device=under_test.device)
    with explicit_attention():
        total, count, _ = language_model_loss(under_test.model, (tokens, targets))
        for _, start, size in windows:
            text = under_test.text[start : start + size + 1]
            text = torch.tensor([text], device=under_test.device)
            plain += next_token_loss(under_test.model(text[:, :-1]), text[:, 1:])[0]
    if count != sum(sizes):
        difference = abs(float(count) - sum(sizes))
        return Comparison(difference, 0, "targets; padding must not count")
    why = f"nats per token; {explain_bound(FP32, times=2)}: a logit and the sum over all"
    sum_bound = SAFETY[FP32] * unit_roundoff(FP32) * float(plain / count)
    bound = 2 * under_test.fp32_bound + sum_bound
    return Comparison(float((total - plain).abs() / count), bound, why)


# Optimizers ---------------------------------------------------------------------------------


def adamw(under_test: ModelUnderTest) -> Comparison:
    """Compares torch's fused AdamW with algorithm 2 of Loshchilov and Hutter."""
    config = TrainConfig(optimizer="adamw", weight_decay=0.1)
    fast, plain = clone(under_test), dict(clone(under_test).named_parameters())
    optimizers = make_optimizers(fast, config)
    moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in plain.items()}
    for step in range(1, N_STEPS + 1):
        gradients = set_random_gradients(fast, step)
        step_optimizers(optimizers, LEARNING_RATE, N_TARGETS.to(under_test.device))
        for name, weight in plain.items():
            gradient = gradients[name] / N_TARGETS
            m, v = moments[name]
            m = config.beta1 * m + (1 - config.beta1) * gradient
            v = config.beta2 * v + (1 - config.beta2) * gradient * gradient
            moments[name] = m, v
            m_hat = m / (1 - config.beta1**step)
            v_hat = v / (1 - config.beta2**step)
            decay = config.weight_decay if weight.dim() == 2 else 0.0
            with torch.no_grad():
                weight -= LEARNING_RATE * (m_hat / (v_hat.sqrt() + 1e-8) + decay * weight)
    largest_weight = max(float(weight.detach().abs().max()) for weight in plain.values())
    bound = N_STEPS * 4 * unit_roundoff(FP32) * largest_weight
    why = f"{N_STEPS} steps x 4 fp32 roundings of the largest weight"
    return Comparison(max_weight_diff(fast, plain), bound, why)


def muon(under_test: ModelUnderTest) -> Comparison:
    """Compares Muon on stacks of equally shaped matrices with each matrix alone."""
    config = TrainConfig(optimizer="muon", weight_decay=0.1)
    fast, plain, perturbed = (clone(under_test) for _ in range(3))
    names = [name for name, weight in plain.named_parameters() if is_block_matrix(name, weight)]
    optimizers = make_optimizers(fast, config)[1:]
    generator = torch.Generator(under_test.device).manual_seed(2)
    momenta: NamedTensors = {}
    for step in range(1, N_STEPS + 1):
        gradients = set_random_gradients(fast, step)
        step_optimizers(optimizers, LEARNING_RATE, N_TARGETS.to(under_test.device))
        for name in names:
            gradient = gradients[name] / N_TARGETS
            momentum = momenta.get(name, torch.zeros_like(gradient))
            momenta[name] = MOMENTUM * momentum + (1 - MOMENTUM) * gradient
            update = MOMENTUM * momenta[name] + (1 - MOMENTUM) * gradient  # Nesterov's
            muon_step(plain.get_parameter(name), newton_schulz(update), config)
            muon_step(perturbed.get_parameter(name), newton_schulz(update, generator), config)
    weights, perturbed_weights = dict(plain.named_parameters()), dict(perturbed.named_parameters())
    effects = {name: max_abs_diff(perturbed_weights[name], weights[name]) for name in names}
    return closest_to_bound(
        {name: max_abs_diff(fast.get_parameter(name), weights[name]) for name in names},
        {name: SAFETY[FP32] * effect for name, effect in effects.items()},
        explain_bound(FP32, "a matrix").replace("every layer", "every iteration"),
    )


def is_block_matrix(name: str, weight: Tensor) -> bool:
    """Tells whether a parameter is a matrix inside a block, which Muon updates."""
    return name.startswith("blocks.") and weight.dim() == 2


@torch.no_grad()
def muon_step(weight: Tensor, direction: Tensor, config: TrainConfig) -> None:
    """Updates a matrix along an orthogonal direction, with decoupled weight decay."""
    scale = 0.2 * max(weight.shape) ** 0.5
    weight -= LEARNING_RATE * (scale * direction + config.weight_decay * weight)


def newton_schulz(u: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Returns the orthogonal matrix nearest to u, by Newton-Schulz iteration of one matrix.

    With a generator, the input of each iteration is perturbed by one rounding.
    """
    a, b, c = COEFFICIENTS
    x = u if u.size(0) <= u.size(1) else u.T
    x = x / x.norm().clamp(min=EPS)
    for _ in range(ITERATIONS):
        x = perturb(x, FP32, generator) if generator else x
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if u.size(0) <= u.size(1) else x.T


def clone(under_test: ModelUnderTest) -> GPT2Model:
    """Returns a copy of the truncated model."""
    model = GPT2Model(under_test.truncated_model.config).to(under_test.device)
    model.load_state_dict(under_test.truncated_model.state_dict())
    return model


def set_random_gradients(model: nn.Module, seed: int) -> NamedTensors:
    """Gives every parameter a random gradient and returns copies of the gradients by name."""
    gradients: NamedTensors = {}
    for name, weight in model.named_parameters():
        generator = torch.Generator(weight.device).manual_seed(seed)
        weight.grad = torch.randn(weight.shape, generator=generator, device=weight.device)
        gradients[name] = weight.grad.clone()
    return gradients


def max_weight_diff(model: nn.Module, weights: Mapping[str, Tensor]) -> float:
    """Returns the largest absolute difference of a model's parameters from weights by name."""
    return max(max_abs_diff(weight, weights[name]) for name, weight in model.named_parameters())


# Checkpoint ---------------------------------------------------------------------------------


def resumed(under_test: ModelUnderTest) -> Comparison:
    """Compares four training steps with two, a checkpoint, and two more in another model.

    Dropout draws from the restored random state. Attention is explicit: on a GPU the fused kernel
    adds gradients up in no fixed order.
    """
    states = random_states()
    config = TrainConfig(optimizer="muon")
    try:
        torch.manual_seed(1)
        with tempfile.TemporaryDirectory(prefix="verify-") as folder:
            uninterrupted = new_model(under_test)
            optimizers = make_optimizers(uninterrupted, config)
            take_steps(under_test, uninterrupted, optimizers, 2)
            write_checkpoint(Path(folder), tensors_of(uninterrupted, optimizers))
            take_steps(under_test, uninterrupted, optimizers, 2)
            torch.manual_seed(2)
            resumed_model = new_model(under_test)
            optimizers = make_optimizers(resumed_model, config)
            restore(read_checkpoint(Path(folder)), resumed_model, optimizers)
            take_steps(under_test, resumed_model, optimizers, 2)
    finally:
        set_random_states(states)
    difference = max_weight_diff(resumed_model, dict(uninterrupted.named_parameters()))
    why = "weights; a checkpoint holds every bit that the next step depends on"
    return Comparison(difference, 0, why)


def new_model(under_test: ModelUnderTest) -> GPT2Model:
    """Returns a model as large as the truncated one, with fresh weights and dropout, to train."""
    config = replace(under_test.truncated_model.config, dropout=0.1)
    return GPT2Model(config).to(under_test.device).train()


def take_steps(
    under_test: ModelUnderTest, model: GPT2Model, optimizers: Optimizers, n: int
) -> None:
    """Takes n training steps on the tokens of the model under test."""
    with explicit_attention():
        for _ in range(n):
            logits = model(under_test.tokens[:, :-1])
            next_token_loss(logits, under_test.tokens[:, 1:])[0].backward()
            step_optimizers(optimizers, LEARNING_RATE, N_TARGETS.to(under_test.device))
