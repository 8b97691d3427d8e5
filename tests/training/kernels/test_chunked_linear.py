"""A chunked linear layer is the linear layer."""

from typing import Literal

import pytest
import torch
from torch import nn

from cfg_gpt2 import GPT2Config, TrainConfig, preset
from gpt2 import GPT2Model
from training.choose_runtime import choose_runtime
from training.kernels import choose_kernels, use_kernels
from training.kernels.linear import ROW_CHUNK, ChunkedLinear


def pair(n_in: int, n_out: int, bias: bool) -> tuple[nn.Linear, ChunkedLinear]:
    """Returns torch's own layer, and the same one in chunks, in fp64."""
    torch.manual_seed(1)
    whole = nn.Linear(n_in, n_out, bias=bias, dtype=torch.float64)
    chunked = ChunkedLinear(n_in, n_out, bias=bias, dtype=torch.float64)
    chunked.load_state_dict(whole.state_dict())
    return whole, chunked


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n_in", "n_out"), [(5, 3), (5, 9), (9, 3), (9, 9)])
@pytest.mark.parametrize("shape", [(3,), (1, 4), (2, 6), (7, 1)])
def test_values_and_gradients_are_those_of_the_layer(
    shape: tuple[int, ...], n_in: int, n_out: int, bias: bool
) -> None:
    whole, chunked = pair(n_in, n_out, bias)
    chunked.row_chunk, chunked.wide = 4, 8  # rows are one chunk, several, or leave a remainder
    x, towards = torch.randn(*shape, n_in).double(), torch.randn(*shape, n_out).double()
    found = []
    for layer in (whole, chunked):
        own = x.clone().requires_grad_()
        y = layer(own)
        y.backward(towards)
        found.append([y, own.grad, *(p.grad for p in layer.parameters())])
    # the same sums in another order, in fp64
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_under_autocast_it_is_the_layer_under_autocast() -> None:
    whole, chunked = pair(24, 12, bias=True)
    whole.float()
    chunked.float().row_chunk = 16
    x = torch.randn(2, 40, 24)
    with torch.autocast("cpu", torch.bfloat16):
        values = [layer(x) for layer in (whole, chunked)]
    for y in values:
        assert y.dtype == torch.bfloat16
        y.sum().backward()
    torch.testing.assert_close(values[0], values[1], rtol=2**-8, atol=2**-8)  # a rounding to bf16
    gradients = [layer.weight.grad for layer in (whole, chunked)]
    assert gradients[1] is not None and gradients[1].dtype == torch.float32
    # five sums of 16 rows, each rounded to bf16, against one
    torch.testing.assert_close(*gradients, rtol=2**-6, atol=2**-3)


def test_the_weights_keep_their_names() -> None:
    model = GPT2Model(GPT2Config(vocab_size=7, context_length=4, n_layer=1, n_head=1, n_embd=4))
    names = list(model.state_dict())
    use_kernels(model, choose_kernels(torch.device("cpu"), torch.bfloat16, has_tiles=True))
    assert list(model.state_dict()) == names
    assert type(model.get_submodule("blocks.0.feedforward.widen_proj")) is ChunkedLinear


@pytest.mark.parametrize(
    ("tiles", "precision", "name", "expected"),
    [
        (True, "bf16", "gpt2", True),
        (True, "fp32", "gpt2", False),
        (True, "bf16", "tiny", False),  # its matmuls are too small to gain
        (False, "bf16", "gpt2", False),
    ],
)
def test_it_is_chosen_for_large_models_in_bf16_on_processors_with_tiles(
    tiles: bool,
    precision: Literal["fp32", "bf16"],
    name: str,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    config = TrainConfig(device="cpu", precision=precision)
    runtime = choose_runtime(config, preset(name).model)
    assert runtime.has_tiles is expected
    assert (f"{ROW_CHUNK} rows" in runtime.describe()) is expected
