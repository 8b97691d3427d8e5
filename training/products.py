"""The products of the linear layers, some rows at a time, where a processor has tiles (AMX).

    y = x W^T + b        dL/dx = g W        dL/dW = g^T x        dL/db = the rows of g, added up

g is dL/dy. oneDNN, which multiplies for PyTorch, is fastest with 512 rows: (1024, 3072) times
(3072, 768) takes 4.2 ms in one piece and 2.6 in two, and g^T x with 2048 rows 8.0 ms in one and
5.4 in four (bf16, two cores of an Intel Xeon, torch 2.13, 25 November 2026). Where y is wide, one
piece is faster. What is computed is the same, to the rounding of sums.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 512
WIDE = 1024  # columns of a result from which on one piece is faster


def multiply_in_rows(block: nn.Module) -> None:
    """Lets the linear layers of a block compute so; their weights and names stay."""
    for layer in block.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = LinearInRows


class LinearInRows(nn.Linear):
    """A linear layer whose products are cut into rows."""

    def forward(self, input: Tensor) -> Tensor:  # nn.Linear's name for x
        """(..., in) -> (..., out), in autocast's dtype where it is on, as F.linear does."""
        cast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if cast else input.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        y = InRows.apply(input.flatten(0, -2).to(dtype), self.weight.to(dtype), bias)
        return y.unflatten(0, input.shape[:-1])


class InRows(torch.autograd.Function):
    """A linear layer and its gradient."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(R, in), (out, in), (out,) -> (R, out)."""
        ctx.save_for_backward(x, weight)
        if len(weight) >= WIDE:
            return F.linear(x, weight, bias)
        return torch.cat([F.linear(part, weight, bias) for part in x.split(ROWS)])

    @staticmethod
    def backward(ctx, *above: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The gradient by y -> those by x, weight and bias."""
        x, weight = ctx.saved_tensors
        by_y = above[0]
        parts = [by_y] if weight.size(1) >= WIDE else by_y.split(ROWS)
        by_x = torch.cat([part @ weight for part in parts])
        pairs = zip(by_y.split(ROWS), x.split(ROWS), strict=True)
        by_weight = torch.stack([g.T @ part for g, part in pairs]).sum(0)
        return by_x, by_weight, by_y.sum(0) if ctx.needs_input_grad[2] else None
