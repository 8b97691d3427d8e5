from functools import partial

import pytest
import torch
from torch import nn

from cfg_gpt2 import GPT2Config
from feedforward import FeedForward

# fp32 carries 7 digits; sums of up to 80 products of size 1 cost one or two of them.
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)


def config(dropout: float = 0.0, bias: bool = True) -> GPT2Config:
    return GPT2Config(n_embd=20, n_head=2, dropout=dropout, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(bias: bool) -> None:
    torch.manual_seed(1)
    ours = FeedForward(config(bias=bias))
    theirs = nn.Sequential(
        nn.Linear(20, 80, bias=bias), nn.GELU(approximate="tanh"), nn.Linear(80, 20, bias=bias)
    )
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x, towards = torch.randn(2, 5, 20), torch.randn(2, 5, 20)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(i) for layer, i in zip((ours, theirs), inputs, strict=True)]
    for output in outputs:
        (output * towards).sum().backward()
    assert_close(outputs[0], outputs[1])
    assert_close(inputs[0].grad, inputs[1].grad)
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(own.grad, other.grad)


def test_each_position_is_treated_alone_and_alike() -> None:
    torch.manual_seed(2)
    layer = FeedForward(config())
    x = torch.randn(2, 5, 20)
    turned = layer(x.flip(1)).flip(1)
    assert_close(turned, layer(x))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(3)
    layer = FeedForward(config(dropout=0.5))
    x = torch.randn(4, 8, 20)
    whole = layer.eval()(x)
    assert torch.equal(layer(x), whole)
    thinned = layer.train()(x)
    kept = thinned != 0
    assert 0.4 < kept.float().mean() < 0.6
    assert_close(thinned[kept], 2 * whole[kept])
