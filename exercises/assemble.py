"""The learner's parts in the real model, and the proof that they compute what the root's do.

    1. each module of the root's class is exchanged for the learner's, with its weights, by name
    2. STEPS steps beside the original, same weights, same batches: equal losses
    3. a witness counts the calls: the learner's, and those of the root's class

Previous: progress.py.  Next: train.py.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cfg_gpt2 import RunConfig, TrainConfig, require
from exercises.catalogue import EXERCISES
from exercises.exercise import Exercise, Part
from gpt2 import GPT2Model
from load_data import Corpus
from loss import next_token_loss
from multiheadattention import explicit_attention
from training.optimizer import make_optimizers, step_optimizers

STEPS = 20
BATCH = 4  # windows of a step beside the original
LIVELY = 5.0
TOLERANCE = 1e-5  # relative difference of two losses in fp32


class Mine(NamedTuple):
    """An exercise and the learner's class for it."""

    exercise: Exercise
    part: Part


@dataclass
class Witness:
    """How often the learner's modules ran, and how often those of the root's class."""

    mine: dict[str, int] = field(default_factory=dict)
    root: dict[str, int] = field(default_factory=dict)

    def watch(self, module: nn.Module, counts: dict[str, int], name: str) -> None:
        """Counts the calls of a module under a name."""
        counts.setdefault(name, 0)

        def count(*_: object) -> None:
            counts[name] += 1

        module.register_forward_hook(count)


def put_in(model: GPT2Model, parts: Sequence[Mine]) -> Witness:
    """Exchanges the root's modules for the learner's, in place, the outer ones first.

    Raises ValueError where a part has no place in the model.
    """
    witness = Witness()
    order = list(EXERCISES)
    outer_first = sorted(parts, key=lambda mine: -order.index(mine.exercise.name))
    for exercise, part in outer_first:
        places = [name for name, m in model.named_modules() if type(m) is exercise.part]
        require(
            len(places) > 0,
            f"{exercise.name} has no place in the model: another of your parts does its work; "
            "train them one after the other",
        )
        for name in places:
            old = model.get_submodule(name)
            above, _, attribute = name.rpartition(".")
            new = with_weights_of(old, part(*arguments_of(exercise, model)))
            setattr(model.get_submodule(above), attribute, new)
            witness.watch(new, witness.mine, exercise.name)
    for exercise, _ in parts:
        witness.root.setdefault(exercise.name, 0)
        for module in model.modules():
            if type(module) is exercise.part:
                witness.watch(module, witness.root, exercise.name)
    return witness


def arguments_of(exercise: Exercise, model: GPT2Model) -> list[object]:
    """Returns the arguments of the root class's constructor, by their names."""
    config = model.config
    known = {"config": config, "n_embd": config.n_embd, "bias": config.bias}
    if exercise.part.__init__ is nn.Module.__init__:
        return []
    return [known[name] for name in list(inspect.signature(exercise.part).parameters)]


def with_weights_of(old: nn.Module, new: nn.Module) -> nn.Module:
    """Returns the new module with the parameters of the old one, the same tensors."""
    for name, parameter in old.named_parameters():
        above, _, attribute = name.rpartition(".")
        setattr(new.get_submodule(above), attribute, parameter)
    return new.train(old.training)


@contextmanager
def calling(parts: Sequence[Mine]) -> Iterator[None]:
    """Inside this context the model calls all parts: the fused kernel has no softmax module."""
    if any(mine.exercise.name == "causal-softmax" for mine in parts):
        with explicit_attention():
            yield
    else:
        yield


def side_by_side(
    config: RunConfig, corpus: Corpus, parts: Sequence[Mine]
) -> list[tuple[float, float]]:
    """Returns the losses of STEPS steps, in fp32: the original's and that of the learner's parts.

    Dropout is off, for the two would draw different numbers. Matrices are LIVELY times as large as
    fresh ones, whose scores are so near 0 that a wrong attention would not show.
    """
    torch.manual_seed(config.train.seed)
    original = GPT2Model(config.model).eval()
    for parameter in original.parameters():
        if parameter.dim() == 2:
            parameter.data *= LIVELY
    changed = deepcopy(original)
    put_in(changed, parts)
    windows = corpus.windows(config.model.context_length, config.train.seed)
    train = TrainConfig(max_steps=STEPS, learning_rate=1e-3, warmup_steps=0)
    runs = [(model, make_optimizers(model, train)) for model in (original, changed)]
    losses = []
    with calling(parts):
        for step in range(STEPS):
            tokens, targets = windows.batch(step * BATCH, BATCH)
            pair = []
            for model, optimizers in runs:
                loss, n_targets = next_token_loss(model(tokens), targets)
                loss.backward()
                step_optimizers(optimizers, train.learning_rate, grad_scale=n_targets.float())
                pair.append(float(loss.detach() / n_targets))
            losses.append((pair[0], pair[1]))
    return losses


def largest_gap(losses: Sequence[tuple[float, float]]) -> float:
    """Returns the largest relative difference of two losses."""
    pairs = torch.tensor(losses, dtype=torch.float64)
    gaps: Tensor = (pairs[:, 0] - pairs[:, 1]).abs() / pairs[:, 0].abs()
    return float(gaps.max())
