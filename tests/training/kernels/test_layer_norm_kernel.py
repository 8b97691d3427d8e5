"""LayerNorm's written-out gradient is the gradient of torch's LayerNorm."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from layer_norm import EPS
from training.kernels.layer_norm import LayerNormFunction, LayerNormKernel

# fp32 carries 7 digits and the sums over 24 channels cost one; the values are of size 1 to 10.
assert_equal = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
N_EMBD = 24


def random_parameters(dtype: torch.dtype, bias: bool) -> tuple[Tensor, Tensor | None]:
    """Returns a scale and a shift, (C,) each."""
    torch.manual_seed(1)
    weight, shift = torch.randn(2, N_EMBD, dtype=dtype).unbind()
    return weight.requires_grad_(), shift.requires_grad_() if bias else None


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 24), (24,)])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])  # at 1e-3 eps is as large as the variance
def test_values_and_gradients_are_those_of_torch(
    scale: float, shape: tuple[int, ...], bias: bool
) -> None:
    weight, shift = random_parameters(torch.float32, bias)
    ours, theirs = LayerNormKernel(N_EMBD, bias=bias), nn.LayerNorm(N_EMBD, bias=bias)
    ours.load_state_dict({"weight": weight} | ({} if shift is None else {"bias": shift}))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape) * scale + scale
    towards = torch.randn(shape)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(i) for layer, i in zip((ours, theirs), inputs, strict=True)]
    for output in outputs:
        (output * towards).sum().backward()
    assert_equal(outputs[0], outputs[1])
    # the input is multiplied by 1 / scale, so its gradient is of that size
    gradients = [x.grad * scale for x in inputs if x.grad is not None]
    assert_equal(gradients[0], gradients[1])
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_equal(own.grad, other.grad)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_in_fp64_they_are_those_of_torch_to_the_last_digits(scale: float, bias: bool) -> None:
    weight, shift = random_parameters(torch.float64, bias)
    x = (torch.randn(4, 5, N_EMBD, dtype=torch.float64) * scale + scale).requires_grad_()
    grad_output = torch.randn(4, 5, N_EMBD, dtype=torch.float64)
    leaves = [x, weight] if shift is None else [x, weight, shift]
    ours = LayerNormFunction.apply(x, weight, shift)
    theirs = F.layer_norm(x, (N_EMBD,), weight, shift, EPS)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for own, other in zip(
        torch.autograd.grad(ours, leaves, grad_output),
        torch.autograd.grad(theirs, leaves, grad_output),
        strict=True,
    ):
        torch.testing.assert_close(own * scale, other * scale, rtol=1e-12, atol=1e-12)


def test_the_gradient_is_the_slope_of_the_values() -> None:
    weight, shift = random_parameters(torch.float64, bias=True)
    assert shift is not None
    x = torch.randn(2, 3, N_EMBD, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(LayerNormFunction.apply, (x, weight, shift))


def test_a_position_of_equal_channels_becomes_the_bias() -> None:
    layer = LayerNormKernel(8)
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    x = torch.full((1, 8), 3.0, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(y, layer.bias.expand(1, 8))
    assert x.grad is not None and x.grad.isfinite().all()


def test_bf16_is_computed_in_fp32_and_returned_in_bf16() -> None:
    layer = LayerNormKernel(256)
    x = (torch.randn(4, 256) + 30).bfloat16()  # a mean of 30 summed in bf16 would be far off
    assert layer(x).dtype == torch.bfloat16
    assert torch.equal(layer(x), layer(x.float()).bfloat16())
