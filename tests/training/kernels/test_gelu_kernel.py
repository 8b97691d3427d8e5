"""GELU's written-out derivative is the derivative of torch's GELU."""

from functools import partial

import pytest
import torch
from torch import nn

from training.kernels.gelu import GELUFunction, GELUKernel

# Both sides compute the same formula in fp64; what is left is rounding in the last digits.
assert_equal = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


def test_values_and_gradients_are_those_of_torch() -> None:
    x = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    GELUKernel()(ours).sum().backward()
    nn.GELU(approximate="tanh")(theirs).sum().backward()
    assert_equal(GELUKernel()(x), nn.GELU(approximate="tanh")(x))
    assert_equal(ours.grad, theirs.grad)


def test_the_derivative_is_the_slope_of_the_values() -> None:
    x = torch.randn(3, 7, dtype=torch.float64, generator=torch.manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(GELUFunction.apply, x)


def test_large_inputs_pass_and_very_negative_ones_are_stopped() -> None:
    x = torch.tensor([-100.0, 100.0])
    assert torch.equal(GELUKernel()(x), torch.tensor([0.0, 100.0]))


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_shape_and_dtype_stay_and_the_input_is_not_changed(needs_gradient: bool) -> None:
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1)).bfloat16()
    before = x.clone()
    y = GELUKernel()(x.requires_grad_(needs_gradient))
    assert (y.shape, y.dtype) == (x.shape, torch.bfloat16)
    assert torch.equal(x, before)


def test_one_tensor_is_saved_for_backward() -> None:
    saved: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(6).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        GELUKernel()(x)
    assert [tensor.shape for tensor in saved] == [x.shape]
