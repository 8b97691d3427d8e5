from functools import partial

import pytest
import torch
from torch import nn

from layer_norm import LayerNorm

# fp32 carries 7 digits and the sums over 24 channels cost one; the values are of size 1 to 10.
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


def pair(n_embd: int, bias: bool = True) -> tuple[LayerNorm, nn.LayerNorm]:
    """Ours and torch's, with the same random scale and shift."""
    torch.manual_seed(1)
    ours, theirs = LayerNorm(n_embd, bias=bias), nn.LayerNorm(n_embd, bias=bias)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 24), (24,)])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])  # at 1e-3 eps is as large as the variance
def test_values_and_gradients_are_those_of_torch(
    scale: float, shape: tuple[int, ...], bias: bool
) -> None:
    ours, theirs = pair(24, bias)
    x = torch.randn(shape) * scale + scale
    towards = torch.randn(shape)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(i) for layer, i in zip((ours, theirs), inputs, strict=True)]
    for output in outputs:
        (output * towards).sum().backward()
    assert_close(outputs[0], outputs[1])
    # the input is multiplied by 1 / scale, so its gradient is of that size
    assert_close(inputs[0].grad * scale, inputs[1].grad * scale)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(own.grad, other.grad)


def test_every_position_gets_mean_0_and_variance_1() -> None:
    torch.manual_seed(2)
    y = LayerNorm(64)(torch.randn(3, 4, 64) * 5 + 7)
    assert_close(y.mean(dim=-1), torch.zeros(3, 4))
    assert_close(y.var(dim=-1, unbiased=False), torch.ones(3, 4))


def test_a_position_of_equal_channels_becomes_the_bias() -> None:
    ours, _ = pair(8)
    x = torch.full((1, 8), 3.0, requires_grad=True)
    y = ours(x)
    y.sum().backward()
    assert torch.equal(y, ours.bias.expand(1, 8))
    assert x.grad.isfinite().all()


def test_no_position_sees_another() -> None:
    ours, _ = pair(8)
    x = torch.randn(1, 4, 8)
    changed = x.clone()
    changed[0, 2] += 1
    same = [0, 1, 3]
    assert torch.equal(ours(x)[0, same], ours(changed)[0, same])


def test_bf16_is_computed_in_fp32_and_returned_in_bf16() -> None:
    ours, theirs = pair(256)
    x = (torch.randn(4, 256) + 30).bfloat16()  # a mean of 30 summed in bf16 would be far off
    assert ours(x).dtype == torch.bfloat16
    assert torch.equal(ours(x), ours(x.float()).bfloat16())
    # one rounding to 8 bits
    torch.testing.assert_close(ours(x).float(), theirs(x.float()), rtol=2**-7, atol=1e-5)
