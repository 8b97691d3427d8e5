"""The same model compiled, in bf16, and on another device.

Previous: training.py.  Next: kernels.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from diagnostics.verify.check import NotExercised, Unavailable
from diagnostics.verify.comparison import Comparison, compare_gradients
from diagnostics.verify.gradients import forward_backward
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import explain_bound, logit_bound, max_abs_diff
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from run_directory.weights import assign_weights, on_meta_device
from training.choose_runtime import missing_compiler
from training.runtime import Runtime

FP32, BF16 = torch.float32, torch.bfloat16


def compiled(under_test: ModelUnderTest) -> Comparison:
    """Compares logits and gradients of compiled blocks with those of the same blocks, eager."""
    model = deepcopy(under_test.truncated_model)  # the runtime attaches kernels for good
    plain = forward_backward(model, under_test.tokens)
    with compiled_blocks(under_test, model):
        fast = forward_backward(model, under_test.tokens)
    return compare_gradients(under_test, fast, plain, FP32)


@contextmanager
def compiled_blocks(under_test: ModelUnderTest, model: GPT2Model) -> Iterator[None]:
    """Inside this context the blocks are compiled as in training.

    Raises Unavailable where there is no compiler, NotExercised where nothing was compiled.
    """
    missing = missing_compiler(under_test.device.type)
    if missing:
        raise Unavailable(f"compiling needs {missing}")
    torch._dynamo.reset()  # graphs that were compiled before would not be counted
    counters = torch._dynamo.utils.counters  # by name, for torch loads it when it is used: 1 s
    counters.clear()
    Runtime(under_test.device, FP32, compiled=True).prepare(model)
    try:
        yield
        if not counters["stats"]["unique_graphs"]:
            raise NotExercised("nothing was compiled")
    finally:
        for block in model.blocks:
            block._compiled_call_impl = None


@torch.inference_mode()
def bf16(under_test: ModelUnderTest) -> Comparison:
    """Compares matmuls in bf16, with weights and sums in fp32 as in training, with fp32."""
    model = under_test.model
    with bf16_autocast(under_test, model), explicit_attention():
        fast = model(under_test.tokens).float()
    bound = logit_bound(model, under_test.tokens, under_test.logits, BF16)
    return Comparison(max_abs_diff(fast, under_test.logits), bound, explain_bound(BF16))


def bf16_gradients(under_test: ModelUnderTest) -> Comparison:
    """Compares the gradients of matmuls in bf16 with those in fp32."""
    model = under_test.truncated_model
    with bf16_autocast(under_test, model), explicit_attention():
        fast = forward_backward(model, under_test.tokens)
    return compare_gradients(under_test, fast, under_test.gradients, BF16)


@torch.inference_mode()
def bf16_fused(under_test: ModelUnderTest) -> Comparison:
    """Compares fused with explicit attention, both in bf16."""
    model = under_test.model
    with bf16_autocast(under_test, model):
        fast = model(under_test.tokens).float()
        with explicit_attention():
            plain = model(under_test.tokens).float()
    bound = logit_bound(model, under_test.tokens, under_test.logits, BF16)
    return Comparison(max_abs_diff(fast, plain), bound, explain_bound(BF16))


@contextmanager
def bf16_autocast(under_test: ModelUnderTest, model: GPT2Model) -> Iterator[None]:
    """Inside this context matmuls run in bf16.

    Raises NotExercised where a linear layer of the model gave another dtype.
    """
    dtypes: set[torch.dtype] = set()

    def note_dtype(layer: object, inputs: object, y: Tensor) -> None:
        dtypes.add(y.dtype)

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(note_dtype) for layer in layers]
    try:
        with Runtime(under_test.device, BF16).autocast():
            yield
    finally:
        for hook in hooks:
            hook.remove()
    if dtypes != {BF16}:
        raise NotExercised(f"the results of matmuls are {', '.join(sorted(map(str, dtypes)))}")


@torch.inference_mode()
def other_device(under_test: ModelUnderTest) -> Comparison:
    """Compares the logits of the chosen device with those of the CPU."""
    if under_test.device.type == "cpu":
        raise Unavailable("there is no GPU, or --device cpu was given; all rows are the CPU's")
    with on_meta_device():
        on_cpu = GPT2Model(under_test.model.config).eval()
    weights = {name: weight.cpu() for name, weight in under_test.model.named_parameters()}
    assign_weights(on_cpu, weights)
    with explicit_attention():
        plain = on_cpu(under_test.tokens.cpu())
    difference = max_abs_diff(under_test.logits.cpu(), plain)
    return Comparison(difference, under_test.fp32_bound, explain_bound(FP32))
