"""Writing by a compiled step: step.cpp in the place of GPT2Model.forward, for few new tokens.

PyTorch calls some 200 kernels for a token, and each takes its time to start. Compiled, a token is
one call that reads every weight once. Prompts are read by PyTorch as ever; the step goes on in
the same cache. It is compiled once for a machine, in a few seconds, and kept in decoding/built.
Read before: step.cpp.  Read next: ../generation.py.
"""

import ctypes
import functools
import hashlib
import platform
import subprocess
from pathlib import Path
from shutil import which
from typing import cast

import torch
from torch import Tensor, nn

from cfg_gpt2 import require, write_whole
from gpt2 import GPT2Model
from layer_norm import EPS, LayerNorm
from multiheadattention import KVCache
from transformer_block import TransformerBlock

SOURCE = Path(__file__).with_name("step.cpp")
BUILT = Path(__file__).with_name("built")
COMPILERS = ("c++", "g++", "clang++")  # Microsoft's has no vectors of its own
NATIVE = "-mcpu=native" if platform.machine() == "arm64" else "-march=native"
FLAGS = ("-std=c++17", "-O3", NATIVE, "-shared", "-fPIC")
OPENMP = "-fopenmp"  # several threads; where a compiler lacks it, one does everything
MOST = 16  # new tokens in a step; with more, PyTorch's matrix products are faster
LANES = 4  # n_embd has to be a multiple


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


def compile_step(model: GPT2Model) -> GPT2Model:
    """From here on the model takes its small steps compiled. For inference, on a CPU.

    The weights stay where they are and are not copied: do not move or change them afterwards.
    Raises ValueError where the step cannot be compiled, OSError where it cannot be stored.
    """
    wrong = missing(model)
    require(wrong is None, f"--compile on: {wrong}; leave it out")
    model.forward = CompiledStep(model)  # type: ignore[method-assign]
    return model


def missing(model: GPT2Model) -> str | None:
    """What keeps the model from being compiled; None: nothing."""
    weight = model.position_embedding.weight
    if weight.device.type != "cpu":
        return f"it is for CPUs, and the model is on {weight.device.type}"
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
        names = {torch.int8: "int8", torch.bfloat16: "bf16", torch.float32: "fp32"}
        self.step = getattr(library(), f"step_{names[model.lm_head.weight.dtype]}")

    def __call__(self, tokens: Tensor, cache: list[KVCache] | None = None) -> Tensor:
        """(B, T) -> (B, T, V) in fp32. Raises ValueError where the cache is full."""
        if cache is None or tokens.numel() > MOST or torch.is_grad_enabled():
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
    """step.cpp, compiled for this machine. Raises ValueError where the compiler refuses."""
    compiler = next(name for name in COMPILERS if which(name))
    # tells the compiler's version, and what it makes of this processor
    described = subprocess.run(
        [compiler, NATIVE, "-E", "-v", "-"], stdin=subprocess.DEVNULL, capture_output=True
    ).stderr
    made_from = SOURCE.read_bytes() + " ".join(FLAGS).encode() + described
    file = BUILT / f"{hashlib.sha256(made_from).hexdigest()[:16]}.so"
    if not file.is_file():
        write_whole(file, lambda part: build(compiler, part))
    return ctypes.CDLL(str(file))


def build(compiler: str, file: Path) -> None:
    """With several threads, or with one where the compiler has no OpenMP."""
    for flags in ((*FLAGS, OPENMP), FLAGS):
        command = [compiler, *flags, str(SOURCE), "-o", str(file)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode == 0:
            return
    said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
    raise ValueError(f"{compiler} cannot compile {SOURCE.name}: {said}; write --compile off")
