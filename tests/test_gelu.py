from functools import partial

import torch
from torch import nn

from gelu import GELU

# Both sides compute the same formula in fp64; what is left is rounding in the last digits.
assert_close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


def test_values_and_gradients_are_those_of_torch() -> None:
    x = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    GELU()(ours).sum().backward()
    nn.GELU(approximate="tanh")(theirs).sum().backward()
    assert_close(GELU()(x), nn.GELU(approximate="tanh")(x))
    assert_close(ours.grad, theirs.grad)


def test_it_is_the_tanh_form_and_not_the_exact_one() -> None:
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    assert (GELU()(x) - nn.GELU()(x)).abs().max() > 1e-4


def test_large_inputs_pass_and_very_negative_ones_are_stopped() -> None:
    x = torch.tensor([-100.0, 100.0])
    assert torch.equal(GELU()(x), torch.tensor([0.0, 100.0]))


def test_shape_and_dtype_stay() -> None:
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1)).bfloat16()
    assert GELU()(x).shape == x.shape
    assert GELU()(x).dtype == torch.bfloat16
