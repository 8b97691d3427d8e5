"""Int8 weights: every row of a matrix as 8-bit integers and one scale.

    W[n, k] ~ scale[n] Q[n, k],   scale[n] = max_k |W[n, k]| / 127
    y[n]    = scale[n] sum_k Q[n, k] x[k] + bias[n]

Each weight is off by half a scale at most, and decoding reads a quarter of the bytes per token,
which is what a token costs. On a CPU, torch's kernel for few rows takes x in bf16 and gives y in
bf16, whatever their dtype outside of it. So a text read in one pass and the same text read token
by token differ by the rounding of bf16, and generation may differ where two tokens are about
equally likely.
Previous: ../gpt2.py.  Next: settings.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpt2 import GPT2Model

MAX_KERNEL_ROWS = 16  # rows of x; for more, converting the integers to floats once is faster
KERNEL_WIDTH = 16  # weights that the kernel loads at a time, beyond the end of a shorter row
QUANT_MAX = 127  # -128 stays unused, so that a weight and its negative round alike


def quantize(model: GPT2Model) -> GPT2Model:
    """Replaces the linear layers and the token embedding in place, for inference only.

    Norms, biases and the position embedding stay as they are: they are less than a hundredth of
    the bytes. The output layer and the token embedding keep sharing one matrix.
    """
    head = Int8Linear(model.lm_head)
    model.set_submodule("lm_head", head)
    model.set_submodule("token_embedding", Int8Embedding(head))
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear):
            model.set_submodule(name, Int8Linear(layer))
    return model.eval()


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, which takes the place of an nn.Linear."""

    weight: Tensor
    scale: Tensor
    ones: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantize_rows(linear.weight.detach())
        self.register_buffer("weight", weight)  # (N, K)
        self.register_buffer("scale", scale)  # (N,)
        self.register_buffer("ones", torch.ones_like(scale, dtype=torch.bfloat16))  # (N,)
        bias = linear.bias
        self.register_buffer("bias", None if bias is None else bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., N). The scales are applied in the dtype of x, outside the kernel."""
        has_few_rows = x.numel() <= MAX_KERNEL_ROWS * x.size(-1)
        if has_few_rows and x.device.type == "cpu" and x.size(-1) % KERNEL_WIDTH == 0:
            rows = x.bfloat16().flatten(0, -2)  # (..., K)
            y = torch._weight_int8pack_mm(rows, self.weight, self.ones)  # (..., N)
            y = y.unflatten(0, x.shape[:-1]).to(x.dtype) * self.scale.to(x.dtype)  # (..., N)
        else:
            y = F.linear(x, self.weight.to(x.dtype)) * self.scale.to(x.dtype)  # (..., N)
        return y if self.bias is None else y + self.bias


class Int8Embedding(nn.Module):
    """The token embedding of a quantized model: it reads the rows of the output layer."""

    def __init__(self, head: Int8Linear) -> None:
        super().__init__()
        self.head = head

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, C)."""
        return self.head.weight[tokens] * self.head.scale[tokens].unsqueeze(-1)  # (B, T, C)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(N, K) -> integers (N, K) in int8 and scales (N,) in fp32; a row of zeros has scale 1."""
    max_abs = weight.abs().amax(dim=1).float()  # (N,)
    scale = (max_abs / QUANT_MAX).where(max_abs > 0, 1.0)
    return (weight / scale.unsqueeze(1)).round().to(torch.int8), scale
