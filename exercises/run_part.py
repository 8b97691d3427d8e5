"""One case, run on one way to write a part: what the output is, and what it depends on.

Previous: source.py.  Next: allowed.py.
"""

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from exercises.exercise import Case, Outputs, Part


class WrongContract(Exception):
    """A part that cannot be compared: `key` names the text that says why, with its values."""

    def __init__(self, key: str, **values: str) -> None:
        super().__init__(key)
        self.key, self.values = key, values


def run_case(part: Part, case: Case) -> Outputs:
    """Builds the part, gives it the case's weights and inputs, and returns what came out.

    Raises WrongContract where the part is no such part, and whatever its code raises.
    """
    module = build(part, case)
    torch.manual_seed(0)
    if case.kind == "dropout":
        module.train()
        first, second = (call(module, case, case.inputs) for _ in range(2))
        return {"differs": (first != second).any().float()[None]}
    module.eval()
    if case.kind == "influence":
        return {"influence": influence(module, case)}
    inputs = [x.clone().requires_grad_(case.gradients) for x in case.inputs]
    given = [x + 0 for x in inputs]  # not leaves, so that an in-place change is no crash
    y = call(module, case, given)
    for before, after in zip(inputs, given, strict=True):
        if not torch.equal(before, after):
            raise WrongContract("input_changed")
    return {"y": y.detach(), **(gradients(module, inputs, y) if case.gradients else {})}


def in_double(case: Case) -> Case:
    """Returns the case in fp64, for the oracle: of bf16 the same rounded numbers."""
    weights = {name: weight.double() for name, weight in case.weights.items()}
    inputs = tuple(x.double() for x in case.inputs)
    return replace(case, weights=weights, inputs=inputs, autocast=False)


def build(part: Part, case: Case) -> nn.Module:
    """Returns the part with the case's weights, which are copied by name."""
    module = part(*case.arguments)
    if not isinstance(module, nn.Module):
        raise WrongContract("no_module", type=type(module).__name__)
    own = dict(module.named_parameters())
    if own.keys() != case.weights.keys():
        raise WrongContract(
            "names", yours=", ".join(own) or "-", expected=", ".join(case.weights) or "-"
        )
    for name, weight in case.weights.items():
        if own[name].shape != weight.shape:
            yours, expected = str(tuple(own[name].shape)), str(tuple(weight.shape))
            raise WrongContract("weight_shape", name=name, yours=yours, expected=expected)
        own[name].data = weight.clone()
    return module


def call(module: nn.Module, case: Case, inputs: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    """Returns the output of one call. Raises WrongContract where it is no tensor."""
    with torch.autocast("cpu", torch.bfloat16) if case.autocast else nullcontext():
        y = module(*inputs)
    if type(y) not in (Tensor, nn.Parameter):
        raise WrongContract("no_tensor", type=type(y).__name__)
    return y


def gradients(module: nn.Module, inputs: list[Tensor], y: Tensor) -> Outputs:
    """Returns the gradients of a fixed weighted sum of y; zeros where y does not depend."""
    leaves = {f"x{n}" if n else "x": x for n, x in enumerate(inputs)}
    leaves |= dict(module.named_parameters())
    if not y.requires_grad:
        return {f"grad {name}": torch.zeros_like(leaf) for name, leaf in leaves.items()}
    total = (y * direction_of(y)).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        f"grad {name}": torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), found, strict=True)
    }


def direction_of(y: Tensor) -> Tensor:
    """Returns fixed random weights for the numbers of y, in whose direction y is derived."""
    generator = torch.Generator().manual_seed(y.numel())
    return torch.randn(y.shape, generator=generator).to(y.dtype)


def influence(module: nn.Module, case: Case) -> Tensor:
    """Returns how much the output at t depends on the input at s, (T, S), from 0 to 1 a row.

    It is the length of the gradient of a fixed sum of the output's channels. The first input of
    the case has one row, (1, T, C).
    """
    x = case.inputs[0].clone().requires_grad_()
    y = call(module, case, [x, *case.inputs[1:]])
    direction = direction_of(y)
    rows = []
    for t in range(y.size(1)):
        total = (y[:, t] * direction[:, t]).sum()
        if not total.requires_grad:
            return torch.zeros(y.size(1), x.size(1))
        [grad] = torch.autograd.grad(total, [x], retain_graph=True)
        row = grad[0].norm(dim=-1)
        rows.append(row / row.max().clamp(min=1e-30))
    return torch.stack(rows).detach()
