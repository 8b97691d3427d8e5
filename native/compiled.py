"""CompiledGPT2: the decode step in C++ in the place of GPT2Model.forward, for few new tokens.

PyTorch calls some 200 kernels for a token, and each takes its time to start. The native step is
one call that reads every weight once. PyTorch prefills prompts as ever, and the step continues in
the same cache. Attached from outside: the model's class is exchanged, its weights stay.
Previous: build.py.  Next: ../generation.py.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from shutil import which
from typing import cast

import torch
from torch import Tensor, nn

from cfg_gpt2 import require
from gpt2 import GPT2Model
from layer_norm import EPS, LayerNorm
from multiheadattention import KVCache
from native.build import COMPILERS, has_threads, library
from transformer_block import TransformerBlock

__all__ = ["CompiledGPT2", "compile_model", "has_threads", "missing"]

MAX_STEP_TOKENS = 16  # new tokens in a step; with more, PyTorch's matmuls are faster
N_EMBD_MULTIPLE = 4  # so that the 4 n_embd channels of the feed-forward layer are whole vectors
# The step for each dtype of the matrices, and the dtype of the cache that it reads and writes.
STEPS = {
    torch.float32: ("step_fp32", torch.float32),
    torch.bfloat16: ("step_bf16", torch.bfloat16),
    torch.int8: ("step_int8", torch.float32),
}


class LinearPointers(ctypes.Structure):
    """`struct Linear` of step.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "scale", "bias")]


class NormPointers(ctypes.Structure):
    """`struct Norm` of step.cpp."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "bias")]


class BlockPointers(ctypes.Structure):
    """`struct Block` of step.cpp."""

    _fields_ = [
        ("attention_norm", NormPointers),
        ("qkv_proj", LinearPointers),
        ("out_proj", LinearPointers),
        ("feedforward_norm", NormPointers),
        ("widen_proj", LinearPointers),
        ("narrow_proj", LinearPointers),
    ]


class CachePointers(ctypes.Structure):
    """`struct Cache` of step.cpp."""

    _fields_ = [("keys", ctypes.c_void_p), ("values", ctypes.c_void_p)]


class ModelPointers(ctypes.Structure):
    """`struct Model` of step.cpp."""

    _fields_ = [
        ("blocks", ctypes.POINTER(BlockPointers)),
        ("final_norm", NormPointers),
        ("lm_head", LinearPointers),
        *((name, ctypes.c_int64) for name in ("n_layer", "n_head", "n_embd", "vocab_size")),
        ("eps", ctypes.c_float),
    ]


class TokenPointers(ctypes.Structure):
    """`struct Tokens` of step.cpp."""

    _fields_ = [
        ("caches", ctypes.POINTER(CachePointers)),
        *((name, ctypes.c_void_p) for name in ("rows", "positions", "x", "logits")),
        *((name, ctypes.c_int64) for name in ("n_tokens", "capacity")),
    ]


class CompiledGPT2(GPT2Model):
    """GPT-2 that takes its decode steps in C++, and does everything else as GPT2Model."""

    native: "NativeStep"

    def forward(self, tokens: Tensor, cache: Sequence[KVCache] | None = None) -> Tensor:
        """(B, T) -> (B, T, V); those of a native step are fp32.

        Raises ValueError where a cache is full.
        """
        if not cache or not self.takes(tokens, cache):
            return super().forward(tokens, cache)
        n_rows, n_new = tokens.shape
        positions = cache[0].positions(n_new).expand(n_rows, -1).contiguous()  # (B, T)
        rows = torch.arange(n_rows).unsqueeze(1).expand(-1, n_new).contiguous()  # (B, T)
        for layer in cache:
            layer.advance(n_new)
        x = self.token_embedding(tokens).float()  # (B, T, C)
        x = (x + self.position_embedding(positions).float()).contiguous()
        logits = torch.empty(n_rows, n_new, self.native.model.vocab_size)  # (B, T, V)
        caches = [CachePointers(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in cache]
        work = TokenPointers(
            (CachePointers * len(cache))(*caches),
            rows.data_ptr(),
            positions.data_ptr(),
            x.data_ptr(),
            logits.data_ptr(),
            tokens.numel(),
            cache[0].keys.size(-2),
        )
        self.native.run(work)
        return logits

    def takes(self, tokens: Tensor, cache: Sequence[KVCache]) -> bool:
        """Whether this is a native step: few tokens, and a cache that its pointers fit."""
        keys = cache[0].keys
        return (
            tokens.numel() <= MAX_STEP_TOKENS
            and not (torch.is_grad_enabled() or self.training)
            and len(cache) == self.native.model.n_layer
            and keys.dtype == self.native.cache_dtype
            and keys.size(0) == tokens.size(0)
            and keys.is_contiguous()
        )


class NativeStep:
    """The C++ function for a model, with pointers to its weights, which it keeps alive."""

    def __init__(self, model: GPT2Model) -> None:
        self.kept: list[Tensor] = []  # the tensors that the pointers lead to
        blocks = [
            BlockPointers(
                self.norm(block.attention_norm),
                self.linear(block.attention.qkv_proj),
                self.linear(block.attention.out_proj),
                self.norm(block.feedforward_norm),
                self.linear(block.feedforward.widen_proj),
                self.linear(block.feedforward.narrow_proj),
            )
            for block in cast(list[TransformerBlock], list(model.blocks))
        ]
        sizes = model.config
        self.model = ModelPointers(
            (BlockPointers * sizes.n_layer)(*blocks),
            self.norm(model.final_norm),
            self.linear(model.lm_head),
            sizes.n_layer,
            sizes.n_head,
            sizes.n_embd,
            sizes.vocab_size,
            EPS,
        )
        name, self.cache_dtype = STEPS[model.lm_head.weight.dtype]
        self.function: Callable[..., None] = getattr(library(), name)

    def run(self, work: TokenPointers) -> None:
        """Computes the logits of a few tokens, and writes their keys and values into the cache."""
        self.function(ctypes.byref(self.model), ctypes.byref(work), torch.get_num_threads())

    def linear(self, layer: nn.Module) -> LinearPointers:
        """Points to the weight as it is, and to bias and scale (of int8 weights) in fp32."""
        weight, scale, bias = (getattr(layer, name, None) for name in ("weight", "scale", "bias"))
        return LinearPointers(
            self.pointer(weight),
            self.pointer(scale, dtype=torch.float32),
            self.pointer(bias, dtype=torch.float32),
        )

    def norm(self, layer: LayerNorm) -> NormPointers:
        """Points to weight and bias in fp32."""
        return NormPointers(
            self.pointer(layer.weight, dtype=torch.float32),
            self.pointer(layer.bias, dtype=torch.float32),
        )

    def pointer(self, tensor: Tensor | None, dtype: torch.dtype | None = None) -> int | None:
        """Returns the address of a tensor's numbers, as they are or in dtype, and keeps them."""
        if tensor is None:
            return None
        self.kept.append(tensor.detach().contiguous().to(dtype or tensor.dtype))
        return self.kept[-1].data_ptr()


def compile_model(model: GPT2Model) -> GPT2Model:
    """Makes a model take its decode steps in C++, in place. For inference, on a CPU.

    The weights stay where they are and are not copied: do not move or change them afterwards.
    Raises ValueError where the step cannot be compiled, OSError where it cannot be stored.
    """
    reason = missing(model)
    require(reason is None, f"{reason}; leave out --native on")
    native = NativeStep(model)
    model.__class__ = CompiledGPT2
    cast(CompiledGPT2, model).native = native
    return model


def missing(model: GPT2Model) -> str | None:
    """Returns what keeps the step from being compiled for a model; None: nothing."""
    matrix = model.lm_head.weight
    if model.device.type != "cpu":
        return f"it is for CPUs, and the model is on {model.device.type}"
    if STEPS.get(matrix.dtype, ("", None))[1] != model.dtype:  # a cache has the second's dtype
        return f"it knows fp32, bf16 and int8 of fp32, not {matrix.dtype} with {model.dtype}"
    if os.name == "nt":  # GCC bug 54412: there g++ does not align wide vectors on the stack
        return "it is for Linux and macOS"
    if model.config.n_embd % N_EMBD_MULTIPLE:
        return f"--model.n-embd {model.config.n_embd} is no multiple of {N_EMBD_MULTIPLE}"
    if not any(map(which, COMPILERS)):
        return f"there is no C++ compiler; one of {', '.join(COMPILERS)} is needed"
    return None
