"""Each kernel gives what the module gives that it replaces: values, gradients, names."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from cfg_gpt2 import GPT2Config
from gelu import GELU
from gpt2 import GPT2Model
from layer_norm import LayerNorm
from multiheadattention import MultiHeadAttention
from training.kernels import KERNELS, use_kernels
from training.kernels.attention import SHORT, ShortAttention, TiledAttention
from training.kernels.gelu import GELUKernel
from training.kernels.layer_norm import LayerNormKernel
from training.kernels.linear import ChunkedLinear

N_EMBD = 32
CONFIG = GPT2Config(
    vocab_size=11, context_length=SHORT + 70, n_layer=1, n_head=2, n_embd=N_EMBD, dropout=0.0
)
Case = tuple[Callable[[], nn.Module], type[nn.Module], int]  # module, its kernel, positions
CASES: dict[str, Case] = {
    "gelu": (GELU, GELUKernel, 40),
    "layer_norm": (lambda: LayerNorm(N_EMBD), LayerNormKernel, 40),
    "layer_norm without bias": (lambda: LayerNorm(N_EMBD, bias=False), LayerNormKernel, 40),
    "linear": (lambda: nn.Linear(N_EMBD, 48), ChunkedLinear, 700),  # two chunks, one a remainder
    "short attention": (lambda: MultiHeadAttention(CONFIG), ShortAttention, 40),
    "attention that is not short": (lambda: MultiHeadAttention(CONFIG), ShortAttention, SHORT + 9),
    "tiled attention": (lambda: MultiHeadAttention(CONFIG), TiledAttention, SHORT + 70),
    "tiled attention of a short text": (lambda: MultiHeadAttention(CONFIG), TiledAttention, 40),
}
# LayerNorm computes in fp32 whatever it is given, so fp32's rounding is what is left: 2^-24, and
# sums of 80 positions. All others compute in fp64.
FP64: dict[type[nn.Module], float] = {LayerNormKernel: 1e-5}
# Intermediate results, and the gradient on its way, are rounded to bf16 some ten times: 2^-9 each.
BF16 = 2**-6


def random_module(make: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """Returns the module with weights of size 1 / sqrt(width), so that scores are of size 1."""
    torch.manual_seed(1)
    module = make()
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=float(name == "weight"), std=N_EMBD**-0.5)
    return module.to(dtype)


def values_and_gradients(
    module: nn.Module, x: Tensor, grad_output: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Returns the output, and the gradients of the input and of each weight."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    y = module(x)
    y.backward(grad_output(y))
    leaves = {"input": x, **dict(module.named_parameters())}
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    assert gradients.keys() == leaves.keys()
    return {"output": y.detach(), **gradients}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("make", "kernel", "length"), CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_the_replaced_module(
    make: Callable[[], nn.Module], kernel: type[nn.Module], length: int, dtype: torch.dtype
) -> None:
    plain = random_module(make, dtype)
    fast = nn.Sequential(deepcopy(plain))
    use_kernels(fast, {type(plain): kernel})
    assert type(fast[0]) is kernel
    torch.manual_seed(2)
    x = torch.randn(2, length, N_EMBD).to(dtype)

    def grad_output(y: Tensor) -> Tensor:
        return torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(y.dtype)

    expected = values_and_gradients(plain, x, grad_output)
    actual = values_and_gradients(fast[0], x, grad_output)
    tolerance = BF16 if dtype == torch.bfloat16 else FP64.get(kernel, 1e-12)
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        error = (actual[name].double() - value.double()).norm() / value.double().norm()
        assert error < tolerance, name


def test_every_kernel_has_a_case() -> None:
    tested = {kernel for _, kernel, _ in CASES.values()}
    assert tested == {kernel for kernels in KERNELS.values() for kernel in kernels}


@pytest.mark.parametrize("replaced", KERNELS)
def test_a_kernel_is_a_subclass_of_what_it_replaces(replaced: type[nn.Module]) -> None:
    assert all(issubclass(kernel, replaced) for kernel in KERNELS[replaced])


@pytest.mark.parametrize("last", [0, -1])  # of those that replace the same module
def test_attaching_keeps_weights_names_and_order(last: int) -> None:
    model = GPT2Model(CONFIG)
    names, ids = list(model.state_dict()), [id(p) for p in model.parameters()]
    modules = [name for name, _ in model.named_modules()]
    use_kernels(model, {replaced: kernels[last] for replaced, kernels in KERNELS.items()})
    assert list(model.state_dict()) == names
    assert [id(p) for p in model.parameters()] == ids
    assert [name for name, _ in model.named_modules()] == modules
    types = {type(module) for module in model.modules()}
    assert not types & {GELU, LayerNorm, MultiHeadAttention}
    assert type(model.blocks[0].get_submodule("feedforward.widen_proj")) is ChunkedLinear
    assert type(model.lm_head) is nn.Linear  # linear_cross_entropy stands for it


@pytest.mark.parametrize("replaced", KERNELS)
def test_a_subclass_is_left_alone(replaced: type[nn.Module]) -> None:
    own = type("Own", (replaced,), {})
    module = object.__new__(own)
    nn.Module.__init__(module)
    use_kernels(nn.Sequential(module), {replaced: KERNELS[replaced][0]})
    assert type(module) is own


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
@pytest.mark.parametrize("name", ["layer_norm", "linear"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(name: str, frozen: str) -> None:
    make, kernel, _ = CASES[name]
    plain = random_module(make, torch.float32)
    fast = nn.Sequential(deepcopy(plain))
    use_kernels(fast, {type(plain): kernel})
    gradients = []
    for module in (plain, fast[0]):
        x = torch.randn(3, N_EMBD, generator=torch.Generator().manual_seed(4))
        leaves = {"input": x, **dict(module.named_parameters())}
        for leaf, tensor in leaves.items():
            tensor.requires_grad_(leaf != frozen)
        module(x).square().sum().backward()
        gradients.append({leaf: tensor.grad for leaf, tensor in leaves.items()})
    assert gradients[1][frozen] is None
    for leaf in leaves.keys() - {frozen}:
        torch.testing.assert_close(gradients[1][leaf], gradients[0][leaf], rtol=1e-5, atol=1e-5)
