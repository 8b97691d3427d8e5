"""Chunked matmuls: linear layers some rows at a time, for processors with matrix tiles (AMX).

    y = x W^T + b        dL/dx = g W        dL/dW = g^T x        dL/db = the sum of g's rows

g is dL/dy. oneDNN, which multiplies for PyTorch on a CPU, is fastest with 512 rows at a time
where the result is narrow, and with all rows at once where it is wide. The values are those of
one matmul, to the rounding of sums.
Previous: layer_norm.py.  Next: attention.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROW_CHUNK = 512  # rows that are multiplied at a time
WIDE = 1024  # columns of a result from which on one matmul is faster

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None, None, None]


class ChunkedLinear(nn.Linear):
    """A linear layer whose matmuls are cut into chunks of rows."""

    row_chunk = ROW_CHUNK
    wide = WIDE

    def forward(self, input: Tensor) -> Tensor:  # nn.Linear's name for x
        """(..., in) -> (..., out), in autocast's dtype where it is on, as F.linear does."""
        cast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if cast else input.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        rows, weight = input.flatten(0, -2).to(dtype), self.weight.to(dtype)
        y = ChunkedLinearFunction.apply(rows, weight, bias, self.row_chunk, self.wide)
        return y.unflatten(0, input.shape[:-1])


class ChunkedLinearFunction(torch.autograd.Function):
    """A linear layer in chunks of rows, and its gradient."""

    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor | None, row_chunk: int, wide: int
    ) -> Tensor:
        """(R, in), (out, in), (out,) -> (R, out)."""
        needs_input, needs_weight = ctx.needs_input_grad[:2]
        ctx.save_for_backward(x if needs_weight else None, weight if needs_input else None)
        ctx.row_chunk, ctx.wide = row_chunk, wide
        if len(weight) >= wide:
            return F.linear(x, weight, bias)
        return torch.cat([F.linear(rows, weight, bias) for rows in x.split(row_chunk)])

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Gradients:
        """dL/dy -> dL/dx, dL/dweight, dL/dbias."""
        x, weight = ctx.saved_tensors
        (g,) = grad_outputs
        grad_input = grad_weight = None
        if ctx.needs_input_grad[0]:
            chunks = [g] if weight.size(1) >= ctx.wide else g.split(ctx.row_chunk)
            grad_input = torch.cat([rows @ weight for rows in chunks])
        if ctx.needs_input_grad[1]:
            pairs = zip(g.split(ctx.row_chunk), x.split(ctx.row_chunk), strict=True)
            grad_weight = torch.stack([g_rows.T @ x_rows for g_rows, x_rows in pairs]).sum(0)
        grad_bias = g.sum(0) if ctx.needs_input_grad[2] else None
        return grad_input, grad_weight, grad_bias, None, None
