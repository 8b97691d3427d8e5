"""Int8 weights, put into a finished model: against the fp32 weights, and by their own kernel.

    W = s Q + e,   |e| <= s / 2        s, one per row, is the step between neighbouring integers

The effect of such an e on the logits depends on the model. So it is measured: e is drawn evenly
between -s/2 and s/2 for each weight, as rounding to the nearest integer distributes it, and the
formula runs with the weights W + e.
Previous: kernels.py.  Next: native.py.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from diagnostics.verify.call_counter import count_calls
from diagnostics.verify.check import NotExercised, Unavailable
from diagnostics.verify.comparison import Comparison
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import explain_bound, logit_bound, max_abs_diff
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from quantization import int8

SAFETY = 2  # the real error is another draw from the same distribution
MAX_TOKENS = 32  # of each text, for they are computed in small pieces


@torch.inference_mode()
def int8_weights(under_test: ModelUnderTest) -> Comparison:
    """Compares int8 with fp32: each weight within half a step, and the logits accordingly."""
    model = int8.quantize(copy.deepcopy(under_test.model))
    n_steps = max(max_steps(weight, layer) for weight, layer in matrices(under_test.model, model))
    if not n_steps <= 0.5:
        return Comparison(n_steps, 0.5, "steps from a weight to its integer, which is the nearest")
    noisy = copy.deepcopy(under_test.model)
    generator = torch.Generator(under_test.device).manual_seed(1)
    for weight, layer in matrices(noisy, model):
        noise = torch.rand(weight.shape, generator=generator, device=weight.device)
        weight += (noise - 0.5) * layer.scale.unsqueeze(1)
    with explicit_attention():
        difference = max_abs_diff(model(under_test.tokens), under_test.logits)
        effect = max_abs_diff(noisy(under_test.tokens), under_test.logits)
    why = f"{SAFETY} x the effect of random errors of up to half a step per weight on the logits"
    return Comparison(difference, SAFETY * effect, why)


@torch.inference_mode()
def int8_kernel(under_test: ModelUnderTest) -> Comparison:
    """Compares the kernel for few rows, which takes integers, with dequantized weights.

    It multiplies matrices whose rows are multiples of its width; others are converted to floats.
    """
    if under_test.device.type != "cpu":
        raise Unavailable("the kernel for few rows of int8 weights is for CPUs")
    model = int8.quantize(copy.deepcopy(under_test.model))
    dequantized = dequantize(under_test.model, model)
    widths = [weight.size(1) for weight, _ in matrices(dequantized, model)]
    n_matrices = sum(width % int8.KERNEL_WIDTH == 0 for width in widths)
    if n_matrices == 0:
        raise Unavailable(f"no matrix has rows of a multiple of {int8.KERNEL_WIDTH} weights")
    tokens = under_test.tokens[:, :MAX_TOKENS]
    pieces = tokens.split(int8.MAX_KERNEL_ROWS // len(tokens), dim=1)
    cache = model.new_cache(len(tokens))
    with count_calls(model) as calls, explicit_attention():
        fast = torch.cat([model(piece, cache) for piece in pieces], dim=1)
    calls.require_int8_kernel(n_matrices * len(pieces))
    with explicit_attention():
        plain = dequantized(tokens)
    bound = logit_bound(dequantized, tokens, plain, torch.bfloat16)
    return Comparison(max_abs_diff(fast, plain), bound, explain_bound(torch.bfloat16))


@torch.no_grad()
def dequantize(plain: GPT2Model, quantized: GPT2Model) -> GPT2Model:
    """Returns a copy of a model whose matrices have the values of the int8 weights, in fp32."""
    model = copy.deepcopy(plain)
    for weight, layer in matrices(model, quantized):
        weight.copy_(layer.weight * layer.scale.unsqueeze(1))
    return model


def matrices(plain: GPT2Model, quantized: GPT2Model) -> Iterator[tuple[Tensor, int8.Int8Linear]]:
    """Yields every matrix of a model with the layer that has its integers.

    Raises NotExercised where a matrix has not been quantized.
    """
    for name, linear in plain.named_modules():
        if isinstance(linear, nn.Linear):
            layer = quantized.get_submodule(name)
            if not isinstance(layer, int8.Int8Linear):
                raise NotExercised(f"{name} has no int8 weights")
            yield linear.weight, layer


def max_steps(weight: Tensor, layer: int8.Int8Linear) -> float:
    """Returns the largest distance of a weight from its integer, in steps."""
    return float((weight / layer.scale.unsqueeze(1) - layer.weight).abs().max())
