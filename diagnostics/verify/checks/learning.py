"""The parts of a training step against their formulas: loss, padding, optimizers, checkpoint.

Previous: writing.py.  Next: machines.py.
"""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import loss
from cfg_gpt2 import TrainConfig
from diagnostics.verify.check import Finding
from diagnostics.verify.gradients import Parts, distance, worst
from diagnostics.verify.rounding import SAFETY, largest, moved, reason, unit
from diagnostics.verify.subject import Subject
from gpt2 import GPT2Model
from load_data import padded
from loss import ALIGNED, IGNORE_INDEX, head_loss, next_token_loss
from multiheadattention import explicit_attention
from trainer import language_model_loss
from training.checkpoint import (
    random_states,
    read_checkpoint,
    restore,
    set_random_states,
    tensors_of,
    write_checkpoint,
)
from training.muon import COEFFICIENTS, EPS, ITERATIONS, MOMENTUM
from training.optimizer import Optimizers, make_optimizers, step_optimizers

FP32 = torch.float32
RATE = 1e-2
N_STEPS = 3
ROWS = 256  # of logits that the written-out loss holds at a time
DIVISOR = 7.0  # of the gradients, as if so many targets had been counted


# Loss ---------------------------------------------------------------------------------------


def head_and_loss(subject: Subject) -> Finding:
    """The loss and its gradients, for more positions than are computed at once."""
    with torch.no_grad(), explicit_attention():
        hidden_states = subject.model.hidden_states(subject.tokens).flatten(0, 1)
    weight = subject.model.lm_head.weight.detach()
    n_padded = -(-len(weight) // ALIGNED) * ALIGNED
    n_rows = max(len(hidden_states), loss.PRODUCT // n_padded + 1)
    repeated = torch.arange(n_rows, device=subject.device) % len(hidden_states)
    hidden_states = hidden_states[repeated]
    generator = torch.Generator(subject.device).manual_seed(1)
    targets = torch.randint(len(weight), (n_rows,), generator=generator, device=subject.device)
    targets[::5] = IGNORE_INDEX
    fast = fast_loss(hidden_states, weight, targets)
    plain = plain_loss(hidden_states, weight, targets)
    few = hidden_states[: 4 * ROWS], weight, targets[: 4 * ROWS]
    unmoved, noisy = plain_loss(*few), plain_loss(*few, generator)
    # the errors of single losses cancel out, the rounding of their sums does not
    least = unit(FP32) * math.sqrt(n_rows / ROWS)
    return worst(
        {name: distance(fast[name], plain[name]) for name in plain},
        {name: SAFETY[FP32] * max(distance(noisy[name], unmoved[name]), least) for name in plain},
        reason(FP32, "loss and gradients"),
    )


def fast_loss(hidden_states: Tensor, weight: Tensor, targets: Tensor) -> Parts:
    """As in training."""
    x, w = hidden_states.clone().requires_grad_(), weight.clone().requires_grad_()
    total, count = head_loss(x[None], w, targets[None])
    by_features, by_weight = torch.autograd.grad(total, [x, w])
    return named(total, count, by_features, by_weight)


def plain_loss(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    generator: torch.Generator | None = None,
) -> Parts:
    """All logits, then the loss; with a generator, both layers moved by one rounding."""
    totals, counts, by_features = [], [], []
    by_weight = torch.zeros_like(weight)
    w = weight.clone().requires_grad_()
    for rows, wanted in zip(hidden_states.split(ROWS), targets.split(ROWS), strict=True):
        x = rows.clone().requires_grad_()
        logits = (moved(x, FP32, generator) if generator else x) @ w.T
        if generator:
            logits = moved(logits, FP32, generator)
        total, count = next_token_loss(logits[None], wanted[None])
        of_rows, of_weight = torch.autograd.grad(total, [x, w])
        by_features.append(of_rows)
        by_weight += of_weight
        totals.append(total.detach())
        counts.append(count)
    return named(
        torch.stack(totals).sum(), torch.stack(counts).sum(), torch.cat(by_features), by_weight
    )


def named(total: Tensor, count: Tensor, by_features: Tensor, by_weight: Tensor) -> Parts:
    """What is compared."""
    return {
        "the loss": total.detach(),
        "the count": count,
        "the gradient by hidden states": by_features,
        "the gradient by the weight": by_weight,
    }


@torch.no_grad()
def padded_windows(subject: Subject) -> Finding:
    """Windows of unequal lengths, padded to one, against each alone."""
    length = subject.tokens.size(1)
    sizes = (length - 1, max(1, length // 3), 1)
    spans = [(start, start + size) for start, size in enumerate(sizes)]
    tokenizer, stream = subject.tokenizer, torch.tensor(subject.text).numpy()
    together = padded(stream, spans, subject.context_length, tokenizer.end_of_text)
    tokens, targets = (part.to(subject.device) for part in together)
    plain = torch.zeros((), device=subject.device)
    with explicit_attention():
        total, count, _ = language_model_loss(subject.model, (tokens, targets))
        for start, stop in spans:
            text = torch.tensor([subject.text[start : stop + 1]], device=subject.device)
            plain += next_token_loss(subject.model(text[:, :-1]), text[:, 1:])[0]
    if count != sum(sizes):
        return Finding(abs(float(count) - sum(sizes)), 0, "targets that count, and should not")
    why = f"nats a token; {reason(FP32, times=2)}: a logit and the sum over all"
    return Finding(float((total - plain).abs() / count), 2 * subject.fp32_bound, why)


# Optimizers ---------------------------------------------------------------------------------


def adamw(subject: Subject) -> Finding:
    """torch's fused AdamW against Loshchilov and Hutter's algorithm 2, weight by weight."""
    config = TrainConfig(optimizer="adamw", weight_decay=0.1)
    fast, plain = twice(subject), dict(twice(subject).named_parameters())
    optimizers = make_optimizers(fast, config)
    memory = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in plain.items()}
    for step in range(1, N_STEPS + 1):
        drawn = draw_gradients(fast, step)
        step_optimizers(optimizers, RATE, torch.tensor(DIVISOR, device=subject.device))
        for name, weight in plain.items():
            gradient = drawn[name] / DIVISOR
            m, v = memory[name]
            m = config.beta1 * m + (1 - config.beta1) * gradient
            v = config.beta2 * v + (1 - config.beta2) * gradient * gradient
            memory[name] = m, v
            ahead = m / (1 - config.beta1**step)
            scale = (v / (1 - config.beta2**step)).sqrt() + 1e-8
            decay = config.weight_decay if weight.dim() == 2 else 0.0
            with torch.no_grad():
                weight -= RATE * (ahead / scale + decay * weight)
    highest = max(float(weight.detach().abs().max()) for weight in plain.values())
    bound = N_STEPS * 4 * unit(FP32) * highest
    why = f"{N_STEPS} steps x 4 fp32 roundings of the largest weight"
    return Finding(furthest(fast, plain), bound, why)


def muon(subject: Subject) -> Finding:
    """Matrices of one shape multiplied as a stack, against one after the other."""
    config = TrainConfig(optimizer="muon", weight_decay=0.1)
    fast, plain, noisy = (twice(subject) for _ in range(3))
    names = [name for name, weight in plain.blocks.named_parameters() if weight.dim() == 2]
    optimizers = make_optimizers(fast, config)[1:]
    generator = torch.Generator(subject.device).manual_seed(2)
    memory: Parts = {}
    for step in range(1, N_STEPS + 1):
        drawn = draw_gradients(fast, step)
        step_optimizers(optimizers, RATE, torch.tensor(DIVISOR, device=subject.device))
        for name in names:
            gradient = drawn[f"blocks.{name}"] / DIVISOR
            before = memory.get(name, torch.zeros_like(gradient))
            memory[name] = MOMENTUM * before + (1 - MOMENTUM) * gradient
            ahead = MOMENTUM * memory[name] + (1 - MOMENTUM) * gradient
            turn(plain.blocks.get_parameter(name), orthogonal_alone(ahead), config)
            turn(noisy.blocks.get_parameter(name), orthogonal_alone(ahead, generator), config)
    weights, disturbed = dict(plain.named_parameters()), dict(noisy.named_parameters())
    chosen = [f"blocks.{name}" for name in names]
    return worst(
        {name: largest(fast.get_parameter(name), weights[name]) for name in chosen},
        {name: SAFETY[FP32] * largest(disturbed[name], weights[name]) for name in chosen},
        reason(FP32, "a matrix").replace("every layer", "every iteration"),
    )


@torch.no_grad()
def turn(weight: Tensor, direction: Tensor, config: TrainConfig) -> None:
    """One step of Muon along an orthogonal direction."""
    size = 0.2 * max(weight.shape) ** 0.5
    weight -= RATE * (size * direction + config.weight_decay * weight)


def orthogonal_alone(u: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The nearest orthogonal matrix, by the same polynomial, of one matrix.

    With a generator, what each iteration begins with is moved by one rounding.
    """
    a, b, c = COEFFICIENTS
    x = u if u.size(0) <= u.size(1) else u.T
    x = x / x.norm().clamp(min=EPS)
    for _ in range(ITERATIONS):
        x = moved(x, FP32, generator) if generator else x
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if u.size(0) <= u.size(1) else x.T


def twice(subject: Subject) -> GPT2Model:
    """One more copy of the first blocks."""
    model = GPT2Model(subject.first_blocks.config).to(subject.device)
    model.load_state_dict(subject.first_blocks.state_dict())
    return model


def draw_gradients(model: nn.Module, seed: int) -> Parts:
    """Puts random gradients into a model -> copies of them."""
    drawn: Parts = {}
    for name, weight in model.named_parameters():
        generator = torch.Generator(weight.device).manual_seed(seed)
        weight.grad = torch.randn(weight.shape, generator=generator, device=weight.device)
        drawn[name] = weight.grad.clone()
    return drawn


def furthest(model: nn.Module, weights: Mapping[str, Tensor]) -> float:
    return max(largest(weight, weights[name]) for name, weight in model.named_parameters())


# Checkpoint ---------------------------------------------------------------------------------


def resumed(subject: Subject) -> Finding:
    """Two steps, a checkpoint, two more in another model; dropout draws from what is restored.

    By the formula: on a GPU the fused kernel adds gradients up in no fixed order.
    """
    states = random_states()
    config = TrainConfig(optimizer="muon")
    try:
        torch.manual_seed(1)
        with tempfile.TemporaryDirectory(prefix="verify-") as folder:
            straight = learner(subject)
            optimizers = make_optimizers(straight, config)
            take_steps(subject, straight, optimizers, 2)
            write_checkpoint(Path(folder), tensors_of(straight, optimizers))
            take_steps(subject, straight, optimizers, 2)
            torch.manual_seed(2)
            again = learner(subject)
            optimizers = make_optimizers(again, config)
            restore(read_checkpoint(Path(folder)), again, optimizers)
            take_steps(subject, again, optimizers, 2)
    finally:
        set_random_states(states)
    why = "weights; a checkpoint holds every bit that the next step depends on"
    return Finding(furthest(again, dict(straight.named_parameters())), 0, why)


def learner(subject: Subject) -> GPT2Model:
    """The first blocks with other weights and with dropout, on the way to be trained."""
    config = replace(subject.first_blocks.config, dropout=0.1)
    return GPT2Model(config).to(subject.device).train()


def take_steps(subject: Subject, model: GPT2Model, optimizers: Optimizers, n: int) -> None:
    """Training steps on the subject's text."""
    with explicit_attention():
        for _ in range(n):
            logits = model(subject.tokens[:, :-1])
            next_token_loss(logits, subject.tokens[:, 1:])[0].backward()
            step_optimizers(optimizers, RATE, torch.tensor(DIVISOR, device=subject.device))
