"""Writing by a compiled step: step.cpp in the place of GPT2Model.forward, for few new tokens.

PyTorch calls some 200 kernels for a token, and each takes its time to start. Compiled, a token is
one call that reads every weight once. Prompts are read by PyTorch as ever; the step goes on in
the same cache. It is compiled once for a machine, in a few seconds, and kept in native/built.
Previous: step.cpp.  Next: ../generation.py.
"""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import cast

import torch
from torch import Tensor, nn

from cfg_gpt2 import require
from gpt2 import GPT2Model
from layer_norm import EPS, LayerNorm
from multiheadattention import KVCache
from run_directory.files import sync
from transformer_block import TransformerBlock

SOURCE = Path(__file__).with_name("step.cpp")
BUILT = Path(__file__).with_name("built")
COMPILERS = ("c++", "g++", "clang++")  # Microsoft's has no vectors of its own
NATIVE = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
FLAGS = ("-std=c++17", "-O3", NATIVE, "-shared", "-fPIC")
OPENMP = "-fopenmp"  # several threads; where a compiler lacks it, one does everything
MOST = 16  # new tokens in a step; with more, PyTorch's matrix products are faster
LANES = 4  # n_embd has to be a multiple
# The step for each dtype of the matrices, and the dtype of the cache that it reads and writes.
STEPS = {
    torch.float32: ("step_fp32", torch.float32),
    torch.bfloat16: ("step_bf16", torch.bfloat16),
    torch.int8: ("step_int8", torch.float32),
}


class LinearPointers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "scale", "bias")]


class NormPointers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("weight", "bias")]


class BlockPointers(ctypes.Structure):
    _fields_ = [
        ("attention_norm", NormPointers),
        ("qkv_proj", LinearPointers),
        ("out_proj", LinearPointers),
        ("feedforward_norm", NormPointers),
        ("widen_proj", LinearPointers),
        ("narrow_proj", LinearPointers),
    ]


class CachePointers(ctypes.Structure):
    _fields_ = [("keys", ctypes.c_void_p), ("values", ctypes.c_void_p)]


class ModelPointers(ctypes.Structure):
    _fields_ = [
        ("blocks", ctypes.POINTER(BlockPointers)),
        ("final_norm", NormPointers),
        ("lm_head", LinearPointers),
        *((name, ctypes.c_int64) for name in ("n_layer", "n_head", "n_embd", "vocab_size")),
        ("eps", ctypes.c_float),
    ]


class TokenPointers(ctypes.Structure):
    _fields_ = [
        ("caches", ctypes.POINTER(CachePointers)),
        *((name, ctypes.c_void_p) for name in ("rows", "positions", "x", "logits")),
        *((name, ctypes.c_int64) for name in ("n_tokens", "room")),
    ]


def compile_model(model: GPT2Model) -> GPT2Model:
    """From here on the model takes its small steps compiled. For inference, on a CPU.

    The weights stay where they are and are not copied: do not move or change them afterwards.
    Raises ValueError where the step cannot be compiled, OSError where it cannot be stored.
    """
    wrong = missing(model)
    require(wrong is None, f"{wrong}; leave out --native on")
    model.forward = CompiledStep(model)  # type: ignore[method-assign]
    return model


def missing(model: GPT2Model) -> str | None:
    """What keeps the model from being compiled; None: nothing."""
    matrix = model.lm_head.weight
    if model.device.type != "cpu":
        return f"it is for CPUs, and the model is on {model.device.type}"
    if STEPS.get(matrix.dtype, ("", None))[1] != model.dtype:  # a cache has the second's dtype
        return f"it knows fp32, bf16 and int8 of fp32, not {matrix.dtype} with {model.dtype}"
    if os.name == "nt":  # GCC bug 54412: there g++ does not align wide vectors on the stack
        return "it is for Linux and macOS"
    if model.config.n_embd % LANES:
        return f"--model.n-embd {model.config.n_embd} is no multiple of {LANES}"
    if not any(map(which, COMPILERS)):
        return f"there is no C++ compiler; one of {', '.join(COMPILERS)} is needed"
    return None


class CompiledStep:
    """Stands in for GPT2Model.forward, and hands it whatever is not a small step."""

    def __init__(self, model: GPT2Model) -> None:
        self.plain, self.model = model.forward, model
        self.kept: list[Tensor] = []  # what the pointers point to
        blocks = cast(list[TransformerBlock], list(model.blocks))
        layers = [
            BlockPointers(
                self.norm(block.attention_norm),
                self.linear(block.attention.qkv_proj),
                self.linear(block.attention.out_proj),
                self.norm(block.feedforward_norm),
                self.linear(block.feedforward.widen_proj),
                self.linear(block.feedforward.narrow_proj),
            )
            for block in blocks
        ]
        sizes = model.config
        self.blocks = (BlockPointers * sizes.n_layer)(*layers)
        self.sizes = ModelPointers(
            self.blocks,
            self.norm(model.final_norm),
            self.linear(model.lm_head),
            sizes.n_layer,
            sizes.n_head,
            sizes.n_embd,
            sizes.vocab_size,
            EPS,
        )
        name, self.cache_dtype = STEPS[model.lm_head.weight.dtype]
        self.step = getattr(library(), name)

    def __call__(self, tokens: Tensor, cache: Sequence[KVCache] | None = None) -> Tensor:
        """(B, T) -> (B, T, V) in fp32. Raises ValueError where the cache is full."""
        if not cache or not self.takes(tokens, cache):
            return self.plain(tokens, cache)
        n_rows, n_new = tokens.shape
        positions = cache[0].positions(n_new).expand(n_rows, -1).contiguous()  # (B, T)
        rows = torch.arange(n_rows).unsqueeze(1).expand(-1, n_new).contiguous()  # (B, T)
        for layer in cache:
            layer.advance(n_new)
        x = self.model.token_embedding(tokens).float()  # (B, T, C)
        x = (x + self.model.position_embedding(positions).float()).contiguous()
        logits = torch.empty(n_rows, n_new, self.sizes.vocab_size)  # (B, T, V)
        places = [CachePointers(layer.keys.data_ptr(), layer.values.data_ptr()) for layer in cache]
        work = TokenPointers(
            (CachePointers * len(cache))(*places),
            rows.data_ptr(),
            positions.data_ptr(),
            x.data_ptr(),
            logits.data_ptr(),
            tokens.numel(),
            cache[0].keys.size(-2),
        )
        self.step(ctypes.byref(self.sizes), ctypes.byref(work), torch.get_num_threads())
        return logits

    def takes(self, tokens: Tensor, cache: Sequence[KVCache]) -> bool:
        """Whether it is a small step. What does not fit the pointers is never followed by them."""
        keys = cache[0].keys
        return (
            tokens.numel() <= MOST
            and not (torch.is_grad_enabled() or self.model.training)
            and len(cache) == self.sizes.n_layer
            and keys.dtype == self.cache_dtype
            and keys.size(0) == tokens.size(0)
            and keys.is_contiguous()
        )

    def linear(self, layer: nn.Module) -> LinearPointers:
        """Its weight as it is; the bias, and the scale that int8 weights have, in fp32."""
        weight, scale, bias = (getattr(layer, name, None) for name in ("weight", "scale", "bias"))
        return LinearPointers(
            self.place(weight), self.place(scale, wide=True), self.place(bias, wide=True)
        )

    def norm(self, layer: LayerNorm) -> NormPointers:
        return NormPointers(self.place(layer.weight, wide=True), self.place(layer.bias, wide=True))

    def place(self, tensor: Tensor | None, *, wide: bool = False) -> int | None:
        """Where its numbers lie, from here on for good."""
        if tensor is None:
            return None
        kept = tensor.detach().contiguous()
        self.kept.append(kept.float() if wide else kept)
        return self.kept[-1].data_ptr()


@functools.cache
def library() -> ctypes.CDLL:
    """step.cpp, compiled for this machine: for several threads, or for one without OpenMP.

    Raises ValueError where the compiler refuses, OSError where the result has no place.
    """
    compiler = next(name for name in COMPILERS if which(name))
    # tells the compiler's version, and what it makes of this processor
    described = subprocess.run(
        [compiler, NATIVE, "-E", "-v", "-"], stdin=subprocess.DEVNULL, capture_output=True
    ).stderr
    said = ""
    for flags in ((*FLAGS, OPENMP), FLAGS):
        made_from = SOURCE.read_bytes() + " ".join(flags).encode() + described
        file = BUILT / f"{hashlib.sha256(made_from).hexdigest()[:16]}.so"
        said = "" if file.is_file() else build([compiler, *flags, str(SOURCE)], file)
        if not said:
            return ctypes.CDLL(str(file))
    lines = said.splitlines()
    error = next((line for line in lines if "error" in line), " ".join(lines))
    raise ValueError(f"{compiler} cannot compile {SOURCE.name}: {error}; write --native off")


def build(command: list[str], file: Path) -> str:
    """Makes the file, whole or not at all -> "", or what the compiler says against it.

    In a folder of its own, since another process may be at the same work.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=BUILT) as folder:
        made = Path(folder, file.name)
        done = subprocess.run(
            [*command, "-o", str(made)], capture_output=True, encoding="utf-8", errors="replace"
        )
        if done.returncode != 0:
            return done.stderr or f"it ended with status {done.returncode}"
        sync(made)
        made.replace(file)
    return ""


def has_threads() -> bool:
    """Whether the compiler knew OpenMP, so that a step takes as many threads as PyTorch."""
    return bool(library().has_threads())
