"""The memory of a training step, part by part, counted from the sizes alone.

    peak = max over the phases of a step of (persistent tensors + tensors of the phase)

    persistent  weights 4 P, AdamW's two moments 8 P (Muon's momentum: 4 bytes per weight)
    forward     + tensors saved for backward + a chunk of logits, and the head's gradient
    backward    + tensors saved for backward + the largest gradients inside one block
    gathered    + gradients 4 P + the token embedding's two gradients, before they are added up
    optimizer   + gradients 4 P + Muon's stacked matrices

P is the number of parameters. The tensors that autograd saves of a block with the kernels of
training/kernels, in numbers per position: C is the width, H the heads, T the context; p stands for
a number in the precision of matmuls (fp32 or bf16), f for one in fp32.
tests/diagnostics/test_plan_memory.py counts them to the byte.

    each of two norms            C f + f       the normalized input, 1 / standard deviation
    attention, before it         C p           its input
    attention, fused             4 C p + H f   q, k, v, the result, a log-sum per head
    attention, explicit          4 C p + H T p, and twice H T p more with dropout; q, k, v and the
                                 weights in fp32 where only dropout is the reason
    feed-forward                 C p + 8 C p   its input; GELU's derivative and result
    dropout after both           2 C p on a CPU, 2 C bytes on a GPU
    matmuls in bf16              12 C^2 p      a copy of the block's matrices, once

Compiled blocks save less, because cheap parts are recomputed; their list is what torch 2.13 saves.
Left out: allocators, libraries, the CUDA context; RESERVED in estimate.py allows for them.
Previous: text_size.py.  Next: estimate.py.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from cfg_gpt2 import GPT2Config
from training.flops import parameters
from training.kernels.attention import prefers_explicit
from training.kernels.cross_entropy import MAX_LOGITS, SOFTMAX_CHUNK, VOCAB_MULTIPLE

Strategy = Literal["single", "ddp", "fsdp"]
Parts = dict[str, int]  # bytes by the name of what they hold

FP32 = 4
GELU_GRADIENTS = 2  # of the feed-forward width, at the same time: of its result and of its input
GATHERED_BLOCKS = 2  # under FSDP: the block that computes, and the next one, prefetched


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The sizes that decide about the memory of one process of `n_ranks`."""

    model: GPT2Config
    device: str  # cpu or cuda
    bf16: bool = False
    compiled: bool = False
    muon: bool = False
    micro_batch: int = 1  # windows
    accumulates: bool = False  # several micro-batches per step
    strategy: Strategy = "single"
    n_ranks: int = 1
    checkpointing: bool = False

    @property
    def matmul_bytes(self) -> int:
        """The bytes of a number in a matmul."""
        return 2 if self.bf16 else FP32

    @property
    def n_positions(self) -> int:
        """The positions of a micro-batch."""
        return self.micro_batch * self.model.context_length

    @property
    def n_shards(self) -> int:
        """The shards that weights, gradients and optimizer states are cut into."""
        return self.n_ranks if self.strategy == "fsdp" else 1

    @property
    def n_parameters(self) -> int:
        """The number of parameters; the tied head counts once."""
        return parameters(self.model)

    @property
    def block_weights(self) -> int:
        """The numbers in the four matrices of a block."""
        return 12 * self.model.n_embd**2

    @property
    def prefers_explicit(self) -> bool:
        """Whether explicit attention is chosen for its speed: on a CPU in bf16, to 512 keys."""
        dtype = torch.bfloat16 if self.bf16 else torch.float32
        keys = torch.empty((), dtype=dtype).expand(self.model.context_length, 1)  # no memory
        return self.device == "cpu" and prefers_explicit(keys)

    @property
    def uses_explicit_attention(self) -> bool:
        """Whether the T x T weights are in memory: a CPU's fused kernel has no dropout."""
        return self.prefers_explicit or (self.device == "cpu" and self.model.dropout > 0)


# Tensors saved for backward -----------------------------------------------------------------


def saved_by_block(setup: Setup) -> int:
    """Returns the bytes saved for the backward pass of one block, without copies of weights."""
    width = setup.model.n_embd
    if setup.compiled:
        norms = FP32 * width + FP32 * (4 if setup.bf16 else 3)  # the block's input, deviations
        # attention's output, the feed-forward's input, GELU's input and result
        feedforward = setup.matmul_bytes * 10 * width
    else:
        norms = 2 * FP32 * (width + 1)
        feedforward = setup.matmul_bytes * 9 * width
    per_position = norms + saved_by_attention(setup) + feedforward + saved_by_dropout(setup)
    return setup.n_positions * per_position


def saved_by_attention(setup: Setup) -> int:
    """Returns the bytes per position: input, q, k, v, result, and the weights or log-sums."""
    sizes = setup.model
    linear = 2 * setup.matmul_bytes * sizes.n_embd
    if not setup.uses_explicit_attention:
        return linear + 3 * setup.matmul_bytes * sizes.n_embd + FP32 * sizes.n_head
    # where the fused kernel cannot run, torch computes explicitly in fp32
    n_bytes = setup.matmul_bytes if setup.prefers_explicit else FP32
    n_weights = sizes.n_head * sizes.context_length
    saved = linear + n_bytes * (3 * sizes.n_embd + n_weights)
    if sizes.dropout == 0:
        return saved
    mask_bytes = 1 if setup.compiled else n_bytes  # compiled: a mask; eager: the factors
    return saved + n_bytes * n_weights + mask_bytes * n_weights


def saved_by_dropout(setup: Setup) -> int:
    """Returns the bytes per position of dropout after attention and after feed-forward."""
    if setup.model.dropout == 0:
        return 0
    has_masks = setup.device != "cpu" or setup.compiled  # else factors
    return 2 * setup.model.n_embd * (1 if has_masks else setup.matmul_bytes)


def saved_outside_blocks(setup: Setup) -> int:
    """Returns the bytes of token ids, positions, final norm, and dropout of the embeddings."""
    sizes, n_positions = setup.model, setup.n_positions
    ids = 8 * (n_positions + sizes.context_length)
    final_norm = n_positions * FP32 * (sizes.n_embd + 1)
    if sizes.dropout == 0:
        return ids + final_norm
    return ids + final_norm + n_positions * sizes.n_embd * (FP32 if setup.device == "cpu" else 1)


def saved_by_head(setup: Setup) -> int:
    """Returns the bytes of the gradients of hidden states and weight, which forward computes."""
    hidden_states = setup.matmul_bytes * setup.n_positions * setup.model.n_embd
    return hidden_states + FP32 * setup.model.vocab_size * setup.model.n_embd


def bf16_copies(setup: Setup) -> int:
    """Returns the bytes of one block's matrices in bf16; FSDP gathers bf16 in the first place."""
    return setup.block_weights * 2 if setup.bf16 and setup.strategy != "fsdp" else 0


def padded_vocab_size(setup: Setup) -> int:
    """Returns the columns of the logits that fused linear cross-entropy computes."""
    return -(-setup.model.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


# The phases of a step -----------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """The memory of one process: its parts in the phase in which they are largest together."""

    setup: Setup

    @cached_property
    def peak_phase(self) -> str:
        """forward, backward, gathered or optimizer."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def parts(self) -> Parts:
        """The bytes of each part at the peak."""
        return self.phases[self.peak_phase]

    @property
    def peak(self) -> int:
        """The bytes of all parts at the peak."""
        return sum(self.parts.values())

    @cached_property
    def phases(self) -> dict[str, Parts]:
        """The parts that are in memory in each phase."""
        setup, persistent = self.setup, persistent_parts(self.setup)
        gradients = FP32 * setup.n_parameters // setup.n_shards
        # gradients of earlier micro-batches, or the buckets of DDP's all-reduce
        kept = setup.accumulates or setup.strategy == "ddp"
        before = gradients if kept else 0
        saved = saved_tensors(setup)
        head, logits = saved_by_head(setup), head_workspace(setup)
        embedding = FP32 * setup.model.vocab_size * setup.model.n_embd
        block_gradients = 0 if kept else FP32 * setup.block_weights
        return {
            "forward": persistent
            | {"gradients": before, **saved, "output layer and loss": head + logits},
            "backward": persistent
            | {"gradients": before + block_gradients, **saved, "output layer and loss": head}
            | {"working space": block_workspace(setup)},
            "gathered": persistent
            | {"gradients": gradients, "output layer and loss": head, "working space": embedding},
            "optimizer": persistent
            | {"gradients": gradients, "working space": muon_workspace(setup)},
        }


def persistent_parts(setup: Setup) -> Parts:
    """Returns the parts that are in memory in every phase."""
    n_parameters, n_shards = setup.n_parameters, setup.n_shards
    by_muon = setup.model.n_layer * setup.block_weights if setup.muon else 0
    states = 8 * (n_parameters - by_muon) + 4 * by_muon
    parts = {"weights": FP32 * n_parameters // n_shards, "optimizer": states // n_shards}
    if setup.strategy == "fsdp":
        root = n_parameters - setup.model.n_layer * setup.block_weights
        gathered = min(GATHERED_BLOCKS, setup.model.n_layer) * setup.block_weights
        unsharded = FP32 * (root + setup.block_weights)  # gradients before their reduce-scatter
        parts["gathered weights"] = FP32 * root + setup.matmul_bytes * gathered + unsharded
    return parts


def saved_tensors(setup: Setup) -> Parts:
    """Returns activations and bf16 copies.

    With activation checkpointing: those of one block, and the inputs of the others.
    """
    n_layer, block = setup.model.n_layer, saved_by_block(setup)
    outside, copies = saved_outside_blocks(setup), bf16_copies(setup)
    if setup.checkpointing:
        inputs = n_layer * FP32 * setup.n_positions * setup.model.n_embd
        return {"activations": outside + inputs + block, "bf16 copies": copies}
    return {"activations": outside + n_layer * block, "bf16 copies": n_layer * copies}


def head_workspace(setup: Setup) -> int:
    """Returns the bytes of the loss's forward pass.

    They hold the hidden states, the padded weight, a chunk of logits, its softmax, its matmul.
    """
    sizes, n_bytes, vocab_size = setup.model, setup.matmul_bytes, padded_vocab_size(setup)
    n_chunks = math.ceil(setup.n_positions * vocab_size / MAX_LOGITS)
    logits = math.ceil(setup.n_positions / n_chunks) * vocab_size
    softmax = min(logits, SOFTMAX_CHUNK) if setup.device == "cpu" else logits
    matrix = vocab_size * sizes.n_embd
    # a chunk's gradient of the weight, beside their sum
    chunk_gradient = n_bytes * matrix if n_chunks > 1 or setup.bf16 else 0
    hidden_states = setup.n_positions * sizes.n_embd * (FP32 + n_bytes * setup.bf16)
    return hidden_states + n_bytes * (matrix + logits) + FP32 * softmax + chunk_gradient


def block_workspace(setup: Setup) -> int:
    """Returns the most bytes of gradients that are in memory in the backward pass of a block."""
    sizes, n_positions, n_bytes = setup.model, setup.n_positions, setup.matmul_bytes
    residual = FP32 * n_positions * sizes.n_embd
    inside = GELU_GRADIENTS * 4 * n_bytes * n_positions * sizes.n_embd
    if setup.uses_explicit_attention:
        # the feed-forward's saved tensors are freed by then
        weights = 3 * n_bytes * n_positions * sizes.n_head * sizes.context_length
        inside = max(inside, weights - n_bytes * 13 * n_positions * sizes.n_embd)
    return residual + inside


def muon_workspace(setup: Setup) -> int:
    """Returns the bytes of the largest stack of matrices, (C, 4 C) twice a block, in Muon's step.

    In fp32: the Nesterov momenta, and their stack. In the matmuls' precision: the stack, two
    iterates of it, and two Gram matrices, a quarter of it each.
    """
    if not setup.muon:
        return 0
    n_numbers = 8 * setup.model.n_embd**2 * setup.model.n_layer
    n_stacks = 3.5 if setup.bf16 else 2.5  # in fp32 the iteration begins with the stack itself
    return int(n_numbers * (2 * FP32 + n_stacks * setup.matmul_bytes))
