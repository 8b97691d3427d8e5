from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import GPT2Config
from multiheadattention import CausalSoftmax, KVCache, MultiHeadAttention, explicit_attention

# fp32 carries 7 digits; each value is a weighted mean, then a sum of 24 products of size 1.
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)

LENGTH = 8


def config(dropout: float = 0.0, bias: bool = True) -> GPT2Config:
    return GPT2Config(context_length=LENGTH, n_embd=24, n_head=3, dropout=dropout, bias=bias)


def layer_and_input(seed: int = 1, bias: bool = True) -> tuple[MultiHeadAttention, Tensor]:
    torch.manual_seed(seed)
    layer = MultiHeadAttention(config(bias=bias))
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)  # large enough for uneven weights
    return layer, torch.randn(2, LENGTH, 24)


def torch_layer(ours: MultiHeadAttention, bias: bool) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(24, 3, bias=bias, batch_first=True)
    names = {"qkv_proj.weight": "in_proj_weight", "qkv_proj.bias": "in_proj_bias"}
    theirs.load_state_dict({names.get(n, n): w for n, w in ours.state_dict().items()})
    return theirs


def run(layer: MultiHeadAttention, x: Tensor, explicit: bool, cache: KVCache | None) -> Tensor:
    if not explicit:
        return layer(x, cache)
    with explicit_attention():
        return layer(x, cache)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_torch(bias: bool, explicit: bool) -> None:
    ours, x = layer_and_input(bias=bias)
    theirs = torch_layer(ours, bias)
    towards = torch.randn_like(x)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    future = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    outputs = [
        run(ours, inputs[0], explicit, None),
        theirs(*[inputs[1]] * 3, attn_mask=future, need_weights=False)[0],
    ]
    for output in outputs:
        (output * towards).sum().backward()
    assert_close(outputs[0], outputs[1])
    assert_close(inputs[0].grad, inputs[1].grad)
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        other = theirs_by_name[name.replace("qkv_proj.", "in_proj_")]
        # a parameter's gradient sums over 16 positions
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("n_new", [1, 3, LENGTH])
def test_the_formula_and_the_fused_kernel_agree_with_a_cache(n_new: int) -> None:
    layer, x = layer_and_input()
    outputs = []
    for explicit in (True, False):
        cache = KVCache(config(), batch_size=2)
        if n_new < LENGTH:
            run(layer, x[:, :-n_new], explicit, cache)
        outputs.append(run(layer, x[:, -n_new:], explicit, cache))
    assert_close(outputs[0], outputs[1])
    assert_close(outputs[0], layer(x)[:, -n_new:])


@pytest.mark.parametrize("n_new", [1, 3, LENGTH])
def test_the_formula_is_torchs_own_for_any_number_of_new_positions(n_new: int) -> None:
    torch.manual_seed(3)
    layer = MultiHeadAttention(config())
    q, k, v = torch.randn(3, 2, 3, LENGTH, 8).unbind()
    everything = F.scaled_dot_product_attention(q, k, v, is_causal=True)[:, :, -n_new:]
    fresh = q[:, :, -n_new:]
    assert_close(layer.attend_explicit(fresh, k, v), everything)
    assert_close(layer.attend_fused(fresh, k, v), everything)


@pytest.mark.parametrize("n_cached", [0, 5])
def test_a_hook_reads_weights_that_sum_to_1_and_never_look_ahead(n_cached: int) -> None:
    layer, x = layer_and_input()
    read: list[Tensor] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        read.append(output)

    hook = layer.causal_softmax.register_forward_hook(record)
    cache = KVCache(config(), batch_size=2)
    with explicit_attention():
        if n_cached:
            layer(x[:, :n_cached], cache)
        layer(x[:, n_cached:], cache)
    hook.remove()
    weights = read[-1]
    assert weights.shape == (2, 3, LENGTH - n_cached, LENGTH)
    assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    for row, t in enumerate(range(n_cached, LENGTH)):
        assert (weights[:, :, row, : t + 1] > 0).all()
        assert (weights[:, :, row, t + 1 :] == 0).all()


def test_the_hook_is_silent_without_explicit_attention() -> None:
    layer, x = layer_and_input()
    read: list[Tensor] = []

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        read.append(output)

    layer.causal_softmax.register_forward_hook(record)
    layer(x)
    assert not read
    with pytest.raises(RuntimeError), explicit_attention(), explicit_attention():
        raise RuntimeError
    layer(x)
    assert not read, "the context must end with its block, also by an error"
    with explicit_attention():
        with explicit_attention():
            pass
        layer(x)
    assert read, "an inner context must not end the outer one"


@pytest.mark.parametrize("explicit", [True, False])
def test_a_later_position_cannot_reach_an_earlier_one(explicit: bool) -> None:
    layer, x = layer_and_input()
    before = run(layer, x, explicit, None)
    for t in range(LENGTH):
        changed = x.clone()
        changed[:, t] += 1
        after = run(layer, changed, explicit, None)
        # the same sums in the same order; 1e-6 leaves room for another kernel's order
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-6)
        assert ((after - before)[:, t:].abs().amax(dim=-1) > 1e-4).all()


@pytest.mark.parametrize("explicit", [True, False])
def test_dropout_acts_on_the_weights_in_training_only(explicit: bool) -> None:
    torch.manual_seed(4)
    layer = MultiHeadAttention(config(dropout=0.5))
    nn.init.eye_(layer.out_proj.weight)
    layer.residual_dropout.p = 0.0
    x = torch.randn(1, LENGTH, 24)
    whole = run(layer.eval(), x, explicit, None)
    assert torch.equal(run(layer, x, explicit, None), whole)
    layer.train()
    # position 0 looks at itself alone, with weight 1: it is dropped or doubled, head by head
    first = torch.stack([run(layer, x, explicit, None)[0, 0] for _ in range(40)])
    bias = layer.out_proj.bias
    ratio = ((first - bias) / (whole[0, 0] - bias)).unflatten(-1, (3, -1))
    assert torch.allclose(ratio, ratio.mean(dim=-1, keepdim=True), atol=1e-3)
    heads = ratio.mean(dim=-1).round(decimals=2).flatten().tolist()
    assert set(heads) == {0.0, 2.0}


def test_the_cache_keeps_the_order_and_says_when_it_is_full() -> None:
    cache = KVCache(config(), batch_size=1)
    k, v = torch.randn(2, 1, 3, LENGTH, 8).unbind()
    cache.append(k[:, :, :5], v[:, :, :5])
    keys, values = cache.append(k[:, :, 5:], v[:, :, 5:])
    assert torch.equal(keys, k) and torch.equal(values, v)
    with pytest.raises(ValueError, match=f"room for {LENGTH} positions, {LENGTH + 1} were"):
        cache.append(k[:, :, :1], v[:, :, :1])
    assert cache.length == LENGTH, "a refused position must not count"
    cache.length = 0  # all positions forgotten, the memory kept
    keys, _ = cache.append(k[:, :, 2:3], v[:, :, 2:3])
    assert torch.equal(keys, k[:, :, 2:3])


@pytest.mark.parametrize("n_new", [1, 3, LENGTH])
def test_the_formula_and_the_fused_kernel_agree_in_bf16(n_new: int) -> None:
    torch.manual_seed(5)
    layer = MultiHeadAttention(config())
    q, k, v = torch.randn(3, 2, 3, LENGTH, 8).bfloat16().unbind()
    fresh = q[:, :, -n_new:]
    explicit, fused = layer.attend_explicit(fresh, k, v), layer.attend_fused(fresh, k, v)
    assert explicit.dtype == fused.dtype == torch.bfloat16
    # bf16 keeps 8 bits, and scores, weights and sums are each rounded to them
    torch.testing.assert_close(explicit, fused, rtol=2**-5, atol=2**-5)


def test_equal_scores_give_equal_weights_to_a_position_and_those_before_it() -> None:
    weights = CausalSoftmax()(torch.zeros(1, 1, 2, 4))[0, 0]
    wanted = torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0], [1 / 4] * 4])
    assert_close(weights, wanted)
