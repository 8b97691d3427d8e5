from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import GPT2Config
from transformer_block import TransformerBlock

# fp32 carries 7 digits; two sublayers of sums over at most 96 products cost two of them.
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=2e-5)

NAMES = {  # ours -> torch's
    "attention_norm.": "norm1.",
    "attention.qkv_proj.": "self_attn.in_proj_",
    "attention.out_proj.": "self_attn.out_proj.",
    "feedforward_norm.": "norm2.",
    "feedforward.widen_proj.": "linear1.",
    "feedforward.narrow_proj.": "linear2.",
}


def torch_name(name: str) -> str:
    own = next(prefix for prefix in NAMES if name.startswith(prefix))
    return NAMES[own] + name.removeprefix(own)


def tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torchs_pre_norm_layer(bias: bool) -> None:
    torch.manual_seed(1)
    ours = TransformerBlock(GPT2Config(n_embd=24, n_head=3, dropout=0.0, bias=bias))
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    theirs = nn.TransformerEncoderLayer(
        24, 3, 96, dropout=0.0, activation=tanh_gelu, norm_first=True, batch_first=True, bias=bias
    )
    theirs.load_state_dict({torch_name(n): w for n, w in ours.state_dict().items()})
    x, towards = torch.randn(2, 7, 24), torch.randn(2, 7, 24)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    outputs = [ours(inputs[0]), theirs(inputs[1], src_mask=future)]
    for output in outputs:
        (output * towards).sum().backward()
    assert_close(outputs[0], outputs[1])
    assert_close(inputs[0].grad, inputs[1].grad)
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        # a parameter's gradient sums over 14 positions
        other = theirs_by_name[torch_name(name)]
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-5, atol=1e-4)


def test_the_residual_stream_passes_where_both_sublayers_say_nothing() -> None:
    block = TransformerBlock(GPT2Config(n_embd=24, n_head=3))
    for projection in (block.attention.out_proj, block.feedforward.narrow_proj):
        nn.init.zeros_(projection.weight)
        nn.init.zeros_(projection.bias)
    x = torch.randn(1, 4, 24, generator=torch.Generator().manual_seed(2))
    assert torch.equal(block(x), x)
