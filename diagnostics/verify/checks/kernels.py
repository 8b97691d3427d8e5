"""The kernels of training, each attached alone, against the modules that they stand for.

Values and gradients are compared. A kernel is a function of autograd, so its name stands in the
graph that autograd builds; a kernel that is attached, but does not run, is missing there.
Previous: backends.py.  Next: quantization.py.
"""

from copy import deepcopy
from itertools import cycle, islice

import torch
from torch import Tensor, nn

from diagnostics.verify.call_counter import count_calls
from diagnostics.verify.check import NotExercised, Unavailable
from diagnostics.verify.checks.backends import bf16_autocast
from diagnostics.verify.comparison import Comparison, compare_gradients, compare_tensors
from diagnostics.verify.gradients import (
    NamedTensors,
    count_functions,
    forward_backward,
    relative_distances,
)
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import (
    SAFETY,
    explain_bound,
    perturb,
    perturbed_layers,
    unit_roundoff,
)
from gelu import GELU
from gpt2 import GPT2Model
from layer_norm import LayerNorm
from loss import IGNORE_INDEX, next_token_loss
from multiheadattention import MultiHeadAttention, explicit_attention
from training.kernels import use_kernels
from training.kernels.attention import (
    SHORT,
    TILE_SIZE,
    ShortAttention,
    TiledAttention,
    TiledAttentionFunction,
)
from training.kernels.cross_entropy import ChunkSizes, linear_cross_entropy
from training.kernels.gelu import GELUFunction, GELUKernel
from training.kernels.layer_norm import LayerNormFunction, LayerNormKernel
from training.kernels.linear import ChunkedLinear, ChunkedLinearFunction

FP32, BF16 = torch.float32, torch.bfloat16
ROW_CHUNK = 64  # rows of a chunked matmul, so that the text makes several chunks
MAX_ROWS = 256  # rows of logits that the plain loss holds

Kernel = type[nn.Module]
Function = type[torch.autograd.Function]


def gelu(under_test: ModelUnderTest) -> Comparison:
    """Compares the GELU kernel with the formula."""
    model = with_kernel(under_test, GELU, GELUKernel)
    return compare_kernel(under_test, model, GELUFunction, model.config.n_layer)


def layer_norm(under_test: ModelUnderTest) -> Comparison:
    """Compares the LayerNorm kernel with the formula."""
    model = with_kernel(under_test, LayerNorm, LayerNormKernel)
    return compare_kernel(under_test, model, LayerNormFunction, 2 * model.config.n_layer + 1)


def chunked_linear(under_test: ModelUnderTest) -> Comparison:
    """Compares chunked matmuls with whole ones; both wide and narrow results occur."""
    if under_test.device.type != "cpu":
        raise Unavailable("chunked matmuls are for CPUs")
    model = with_kernel(under_test, nn.Linear, ChunkedLinear)
    for layer in model.modules():
        if isinstance(layer, ChunkedLinear):
            layer.row_chunk, layer.wide = ROW_CHUNK, 4 * model.config.n_embd
    return compare_kernel(under_test, model, ChunkedLinearFunction, 4 * model.config.n_layer)


def with_kernel(under_test: ModelUnderTest, plain: Kernel, kernel: Kernel) -> GPT2Model:
    """Returns a copy of the truncated model with one kind of module replaced by its kernel."""
    model = deepcopy(under_test.truncated_model)
    use_kernels(model, {plain: kernel})
    return model


def compare_kernel(
    under_test: ModelUnderTest, model: GPT2Model, function: Function, n_calls: int
) -> Comparison:
    """Compares logits and gradients of `model`, which has a kernel, with the truncated model.

    Raises NotExercised unless the kernel's autograd function runs n_calls times.
    """
    with explicit_attention():
        require_function(model(under_test.tokens[:1, :1]), function, n_calls)
        fast = forward_backward(model, under_test.tokens)
    return compare_gradients(under_test, fast, under_test.gradients, FP32)


def require_function(output: Tensor, function: Function, n_calls: int) -> None:
    """Raises NotExercised unless an autograd function ran n_calls times to compute a tensor."""
    n = count_functions(output)[f"{function.__name__}Backward"]
    if n != n_calls:
        raise NotExercised(f"{function.__name__} ran {n} times, not {n_calls}")


# Attention ----------------------------------------------------------------------------------


def short_attention(under_test: ModelUnderTest) -> Comparison:
    """Compares attention that takes short texts explicitly with explicit attention, in bf16."""
    if under_test.device.type != "cpu":
        raise Unavailable("attention for short texts is for CPUs")
    model = with_kernel(under_test, MultiHeadAttention, ShortAttention)
    plain_model = under_test.truncated_model
    with bf16_autocast(under_test, model), count_calls(model) as calls:
        fast = forward_backward(model, under_test.tokens)
    calls.require_explicit_only(model.config.n_layer)
    with bf16_autocast(under_test, plain_model), explicit_attention():
        plain = forward_backward(plain_model, under_test.tokens)
    return compare_gradients(under_test, fast, plain, BF16)


def tiled_attention(under_test: ModelUnderTest) -> Comparison:
    """Compares one layer's attention, whose gradient is computed in tiles, with the formula.

    It is for texts that are longer than this model's context may be: attention alone has no
    positions, so it takes a text of any length.
    """
    if under_test.device.type != "cpu":
        raise Unavailable("attention in tiles is for CPUs")
    attention = under_test.truncated_model.get_submodule("blocks.0.attention")
    kernel = deepcopy(attention)
    use_kernels(kernel, {MultiHeadAttention: TiledAttention})
    x = long_input(under_test, SHORT + TILE_SIZE // 2)
    with torch.autocast("cpu", BF16):
        require_function(kernel(x), TiledAttentionFunction, 1)
        fast = attention_tensors(kernel, x)
        with explicit_attention():
            plain = attention_tensors(attention, x)
    with explicit_attention():
        exact = attention_tensors(attention, x)
        with perturbed_layers(attention, BF16):
            perturbed = attention_tensors(attention, x)
    why = explain_bound(BF16, "values and gradients")
    return compare_tensors(fast, plain, relative_distances(perturbed, exact), SAFETY[BF16], why)


@torch.no_grad()
def long_input(under_test: ModelUnderTest, length: int) -> Tensor:
    """Returns (1, length, C): the input of the first block's attention for a long text.

    Where the text or the context ends, it begins again.
    """
    model, device = under_test.truncated_model, under_test.device
    tokens = torch.tensor([[*islice(cycle(under_test.text), length)]], device=device)
    positions = torch.arange(length, device=device) % under_test.context_length
    x = model.token_embedding(tokens) + model.position_embedding(positions)
    return model.get_submodule("blocks.0.attention_norm")(x)


def attention_tensors(attention: nn.Module, x: Tensor) -> NamedTensors:
    """Returns the output, and the gradients of a random function of it, by name.

    x: (1, T, C).
    """
    x = x.clone().requires_grad_()
    generator = torch.Generator(x.device).manual_seed(1)
    grad_output = torch.randn(x.shape, generator=generator, device=x.device)
    parameters = dict(attention.named_parameters())
    output = attention(x).float()
    gradients = torch.autograd.grad(output, [x, *parameters.values()], grad_output)
    return {
        "the output": output.detach(),
        **dict(zip(["the input", *parameters], gradients, strict=True)),
    }


# Loss ---------------------------------------------------------------------------------------


def cross_entropy(under_test: ModelUnderTest) -> Comparison:
    """Compares fused linear cross-entropy, in several chunks, with all logits and then the loss."""
    with torch.no_grad(), explicit_attention():
        hidden_states = under_test.model.hidden_states(under_test.tokens).flatten(0, 1)[:MAX_ROWS]
    weight = under_test.model.lm_head.weight.detach()
    generator = torch.Generator(under_test.device).manual_seed(1)
    shape = (len(hidden_states),)
    targets = torch.randint(len(weight), shape, generator=generator, device=under_test.device)
    targets[::5] = IGNORE_INDEX
    # no chunk divides the rows or the vocabulary, so that each kind has a shorter last one
    n_rows = max(1, len(hidden_states) // 3 - 1)
    sizes = ChunkSizes(
        max_logits=n_rows * len(weight),
        softmax=5 * len(weight),
        rows=n_rows // 2 + 1,
        columns=len(weight) // 4 + 1,
    )
    fast = fused_tensors(hidden_states, weight, targets, sizes)
    plain = loss_tensors(hidden_states, weight, targets)
    perturbed = loss_tensors(hidden_states, weight, targets, generator)
    effects = {
        # the errors of single losses cancel out, the rounding of their sum does not
        name: max(effect, unit_roundoff(FP32))
        for name, effect in relative_distances(perturbed, plain).items()
    }
    why = explain_bound(FP32, "loss and gradients", times=2)
    return compare_tensors(fast, plain, effects, 2 * SAFETY[FP32], why)


def fused_tensors(
    hidden_states: Tensor, weight: Tensor, targets: Tensor, sizes: ChunkSizes
) -> NamedTensors:
    """Returns loss, count and gradients by the kernel, in chunks of the given sizes.

    hidden_states: (R, C), weight: (V, C), targets: (R,).
    """
    x, w = hidden_states.clone().requires_grad_(), weight.clone().requires_grad_()
    total, count = linear_cross_entropy(x[None], w, targets[None], sizes)
    return with_gradients(total, count, x, w)


def loss_tensors(
    hidden_states: Tensor,
    weight: Tensor,
    targets: Tensor,
    generator: torch.Generator | None = None,
) -> NamedTensors:
    """Returns loss, count and gradients by next_token_loss(hidden_states @ weight.T, targets).

    With a generator, the hidden states and the logits are perturbed by one rounding.
    """
    x, w = hidden_states.clone().requires_grad_(), weight.clone().requires_grad_()
    if generator is None:
        logits = x @ w.T
    else:
        logits = perturb(perturb(x, FP32, generator) @ w.T, FP32, generator)
    total, count = next_token_loss(logits[None], targets[None])
    return with_gradients(total, count, x, w)


def with_gradients(total: Tensor, count: Tensor, x: Tensor, w: Tensor) -> NamedTensors:
    """Returns the tensors that are compared, by the names that the table shows."""
    grad_hidden, grad_weight = torch.autograd.grad(total, [x, w])
    return {
        "the loss": total.detach(),
        "the count": count,
        "the gradient of the hidden states": grad_hidden,
        "the gradient of the weight": grad_weight,
    }
