"""Muon: every matrix takes a step of equal size in all directions.

    m = 0.8 m + 0.2 g            g is the gradient of a matrix W
    u = 0.8 m + 0.2 g            Nesterov momentum: m one step ahead
    W = W - lr (0.2 sqrt(max(rows, columns)) O(u) + decay W)        Jordan 2024; Liu et al. 2025

O(u) is the orthogonal matrix nearest to u = U S V^T, which is U V^T: it keeps the directions of
the gradient and drops their strengths S. The Newton-Schulz iteration computes it by matmuls alone:

    X = u / |u|                                  no singular value above 1
    X = a X + b (X X^T) X + c (X X^T)^2 X        five times

One iteration maps each singular value s to a s + b s^3 + c s^5 and keeps the directions; five of
them lift every s in (0, 1] to about 1. The factor 0.2 sqrt(...) gives the steps AdamW's size.
Matrices of one shape are multiplied as a stack: one by one, small ones cost more in calls than in
matmuls. Where several processes hold a part of each matrix (FSDP2), so do their momenta; u is
gathered, and every process computes the whole O(u).
Previous: dtensor.py.  Next: optimizer.py.
"""

import torch
from torch import Tensor

from training.adamw import State
from training.dtensor import full_tensor, shard_like

MOMENTUM = 0.8  # Jordan's 0.95 is for longer runs; docs/measurements.md compares five values
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: the steepest start that stays near 1
ITERATIONS = 5
EPS = 1e-7


class Muon:
    """The optimizer of the blocks' matrices, not of vectors, embeddings or the head.

    `precision` is the dtype of the matmuls. bf16 is enough where the device is fast in it: only
    the direction of O(u) is used.
    """

    def __init__(
        self,
        parameters: list[Tensor],
        weight_decay: float,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.parameters, self.weight_decay, self.precision = parameters, weight_decay, precision
        self.state: State = {}

    @torch.no_grad()
    def step(self, learning_rate: float, grad_scale: Tensor) -> None:
        """Updates every matrix that has a gradient by that gradient / grad_scale."""
        shapes: dict[tuple[int, ...], list[Tensor]] = {}  # an (r, c) matrix with the (c, r)
        for parameter in self.parameters:
            if parameter.grad is not None:
                shapes.setdefault(tuple(sorted(parameter.shape)), []).append(parameter)
        for matrices in shapes.values():
            self.update(matrices, learning_rate, grad_scale)

    def update(self, matrices: list[Tensor], learning_rate: float, grad_scale: Tensor) -> None:
        """Takes one step for matrices of one shape, or its transpose."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        torch._foreach_div_(gradients, grad_scale)
        momenta = [self.momentum(matrix) for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = [momentum.clone() for momentum in momenta]
        torch._foreach_lerp_(ahead, gradients, 1 - MOMENTUM)  # DTensor has only the in-place one
        ahead = [full_tensor(u) for u in ahead]
        wide = torch.stack([u if u.size(0) <= u.size(1) else u.T for u in ahead])
        orthogonal = newton_schulz(wide.to(self.precision)).to(matrices[0].dtype).unbind()
        directions = [
            shard_like(o if matrix.size(0) <= matrix.size(1) else o.T, matrix)
            for o, matrix in zip(orthogonal, matrices, strict=True)
        ]
        size = 0.2 * max(matrices[0].shape) ** 0.5
        torch._foreach_mul_(matrices, 1 - learning_rate * self.weight_decay)
        torch._foreach_add_(matrices, directions, alpha=-learning_rate * size)

    def momentum(self, matrix: Tensor) -> Tensor:
        """Returns m of a matrix; it is zero before the matrix's first step."""
        if matrix not in self.state:
            self.state[matrix] = {"momentum_buffer": torch.zeros_like(matrix)}  # torch's name
        return self.state[matrix]["momentum_buffer"]


def newton_schulz(stack: Tensor) -> Tensor:
    """Returns the orthogonal matrix nearest to each of a stack, its singular values about 1.

    (N, rows, columns) -> the same, rows <= columns. The iteration is the header's.
    """
    a, b, c = COEFFICIENTS
    x = stack / stack.norm(dim=(1, 2), keepdim=True).clamp(min=EPS)  # no singular value above 1
    for _ in range(ITERATIONS):
        gram = x @ x.mT  # (N, rows, rows)
        odd = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b x x^T + c (x x^T)^2
        x = torch.baddbmm(x, odd, x, beta=a)  # (N, rows, columns)
    return x
