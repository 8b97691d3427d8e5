"""Int8 weights: every row of a matrix as 8-bit integers and one scale.

    W[n, k] ~ scale[n] Q[n, k],   scale[n] = max_k |W[n, k]| / 127
    y[n]    = scale[n] sum_k Q[n, k] x[k] + bias[n]

Each weight is off by half a scale at most, and a quarter of the bytes is read for each token,
which is what a token costs. On a CPU torch's kernel for few rows takes x in bf16 and gives y in
bf16, whatever their dtype around it. So the same text read at once and read token by token
differs by the rounding of bf16, and may go on differently where two tokens are about as likely.
Previous: gpt2.py.  Next: command.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2 import GPT2Model

FEW = 16  # rows of x; for more, turning the integers into floats once is the faster way
GROUP = 16  # torch's kernel reads so many weights at a time, beyond the end of other rows
LARGEST = 127  # -128 stays unused, so that a weight and its negative round alike


def quantize(model: GPT2Model) -> GPT2Model:
    """Replaces the linear layers and the token embedding in place. For inference only.

    Norms, biases and positions stay as they are: they are less than a hundredth of the bytes.
    The output layer and the token embedding go on sharing one matrix.
    """
    for block in model.blocks:
        for layer in (block.attention, block.feedforward):
            for name, linear in list(layer.named_children()):
                if isinstance(linear, nn.Linear):
                    setattr(layer, name, Int8Linear(linear))
    head = Int8Linear(model.lm_head)
    model.lm_head = head
    model.token_embedding = Int8Embedding(head)
    return model.eval()


class Int8Linear(nn.Module):
    """What takes the place of an nn.Linear."""

    weight: Tensor
    scale: Tensor
    ones: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = rounded(linear.weight.detach())
        self.register_buffer("weight", weight)  # (N, K)
        self.register_buffer("scale", scale)  # (N,)
        self.register_buffer("ones", torch.ones_like(scale, dtype=torch.bfloat16))  # (N,)
        bias = linear.bias
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N)."""
        few = x.numel() <= FEW * x.size(-1)
        if few and x.device.type == "cpu" and x.size(-1) % GROUP == 0:
            rows = x.bfloat16().flatten(0, -2)  # (..., K)
            y = torch._weight_int8pack_mm(rows, self.weight, self.ones)  # (..., N)
            y = y.unflatten(0, x.shape[:-1]).to(x.dtype) * self.scale.to(x.dtype)  # (..., N)
        else:
            y = F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)  # (..., N)
        return y if self.bias is None else y + self.bias


class Int8Embedding(nn.Module):
    """What takes the place of the token embedding: the rows of the output layer."""

    def __init__(self, head: Int8Linear) -> None:
        super().__init__()
        self.head = head

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, C)."""
        return self.head.weight[tokens] * self.head.scale[tokens].unsqueeze(-1)  # (B, T, C)


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) -> (N, K) of int8 and (N,) of scales. A row of zeros has scale 1."""
    largest = weight.abs().amax(dim=1).float()  # (N,)
    scale = (largest / LARGEST).where(largest > 0, 1.0)
    return (weight / scale.unsqueeze(1)).round().to(torch.int8), scale
