"""The same model compiled, in bf16, and on another device.

Previous: learning.py.  Next: quantized.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from diagnostics.verify.check import Finding, NotHere, NotTaken
from diagnostics.verify.gradients import compare, forward_backward
from diagnostics.verify.rounding import largest, logit_bound, reason
from diagnostics.verify.subject import Subject
from gpt2 import GPT2Model
from multiheadattention import explicit_attention, is_short
from run_directory.weights import assign_weights, on_meta_device
from training.runtime import Runtime, missing_compiler

FP32, BF16 = torch.float32, torch.bfloat16


def compiled(subject: Subject) -> Finding:
    """Forward and backward through compiled blocks."""
    model = subject.first_blocks
    eager = forward_backward(model, subject.tokens)
    with compiled_blocks(subject, model):
        fast = forward_backward(model, subject.tokens)
    return compare(model, subject.tokens, fast, eager, FP32)


@contextmanager
def compiled_blocks(subject: Subject, model: GPT2Model) -> Iterator[None]:
    """Inside this context the blocks are compiled as in training.

    Raises NotHere where there is no compiler, NotTaken where nothing was compiled.
    """
    missing = missing_compiler(subject.device.type)
    if missing:
        raise NotHere(f"compiling needs {missing}")
    torch._dynamo.reset()  # what was compiled before would not be counted
    counters.clear()
    Runtime(subject.device, FP32, compiled=True).prepare(model)
    try:
        yield
        if not counters["stats"]["unique_graphs"]:
            raise NotTaken("nothing was compiled")
    finally:
        for block in model.blocks:
            block._compiled_call_impl = None


@torch.inference_mode()
def bf16(subject: Subject) -> Finding:
    """Products in bf16, weights and sums in fp32, as in training."""
    with in_bf16(subject, subject.model), explicit_attention():
        fast = subject.model(subject.tokens).float()
    bound = logit_bound(subject.model, subject.tokens, subject.logits, BF16)
    return Finding(largest(fast, subject.logits), bound, reason(BF16))


def bf16_backwards(subject: Subject) -> Finding:
    """Gradients of products in bf16."""
    model = subject.first_blocks
    with explicit_attention():
        plain = forward_backward(model, subject.tokens)
        with in_bf16(subject, model):
            fast = forward_backward(model, subject.tokens)
    return compare(model, subject.tokens, fast, plain, BF16)


@torch.inference_mode()
def bf16_fused(subject: Subject) -> Finding:
    """The fused kernel in bf16 against the formula in bf16."""
    model = subject.model
    n_keys = subject.tokens.size(1)
    like = torch.empty(1, 1, n_keys, 1, device=subject.device, dtype=BF16)
    if is_short(like):
        raise NotHere(f"on a CPU the formula itself runs in bf16, for {n_keys} keys")
    with in_bf16(subject, model):
        fast = model(subject.tokens).float()
        with explicit_attention():
            plain = model(subject.tokens).float()
    bound = logit_bound(model, subject.tokens, subject.logits, BF16)
    return Finding(largest(fast, plain), bound, reason(BF16))


@contextmanager
def in_bf16(subject: Subject, model: GPT2Model) -> Iterator[None]:
    """Products in bf16. Raises NotTaken where a layer gave something else."""
    seen: set[torch.dtype] = set()

    def look(layer: object, given: object, y: Tensor) -> None:
        seen.add(y.dtype)

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        with Runtime(subject.device, BF16).autocast():
            yield
    finally:
        for hook in hooks:
            hook.remove()
    if seen != {BF16}:
        raise NotTaken(f"products came in {', '.join(sorted(map(str, seen)))}")


@torch.inference_mode()
def other_device(subject: Subject) -> Finding:
    """The device that was chosen, against the processor."""
    if subject.device.type == "cpu":
        raise NotHere("no GPU was found or chosen; the rows above are the CPU's")
    config = subject.model.config
    with on_meta_device():
        copy = GPT2Model(config).eval()
    assign_weights(copy, {name: weight.cpu() for name, weight in subject.model.named_parameters()})
    with explicit_attention():
        wanted = copy(subject.tokens.cpu())
    return Finding(largest(subject.logits.cpu(), wanted), subject.fp32_bound, reason(FP32))
