"""What a training step holds in memory, part by part, counted from the sizes alone.

    peak = max over the moments of a step of (what stays + what the moment holds)

    stays       weights 4 P, AdamW's two moments 8 P (Muon's one moment: 4 bytes a weight)
    forward     + all that autograd keeps + a portion of logits, and the head's gradient
    backward    + all that autograd keeps + the widest gradients inside one block
    gathered    + gradients 4 P + the token embedding's two gradients, before they are added up
    optimizer   + gradients 4 P + Muon's stacked matrices

P is the number of parameters. What autograd keeps of a block, in numbers a position, where C is
the width, H the heads, T the context; p stands for a number of the products' precision (fp32 or
bf16), f for one of fp32. tests/diagnostics/test_plan_memory.py counts it to the byte.

    each of two norms            C f + f       the normed input, 1 / deviation
    attention, before it         C p           its input
    attention, fused             4 C p + H f   q, k, v, the result, a log-sum for each head
    attention, written out       4 C p + H T p, and twice H T p more where dropout draws; q, k, v
                                 and the weights in fp32 where only dropout is the reason
    feed-forward                 C p + 8 C p   its input; GELU's derivative and result
    dropout behind both          2 C p on a CPU, 2 C bytes on a GPU
    products in bf16             12 C^2 p      a copy of the block's matrices, once

Compiled blocks keep less, for the cheap parts are computed again; their list is what torch 2.13
keeps. Left out: allocators, libraries, the CUDA context; RESERVED in command.py allows for them.
Previous: speed.py.  Next: command.py.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from cfg_gpt2 import GPT2Config
from loss import ALIGNED, PRODUCT, SOFTMAX
from multiheadattention import is_short
from training.flops import parameters

Strategy = Literal["single", "ddp", "fsdp"]
Parts = dict[str, int]  # bytes

FP32 = 4
GELU_GRADIENTS = 2  # of the widened size, side by side: its result's and its input's
GATHERED_BLOCKS = 2  # under FSDP: the block that computes, and the next one on its way


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A step whose memory is asked for: that of one process of `n_ranks`."""

    model: GPT2Config
    device: str  # cpu or cuda
    bf16: bool = False
    compiled: bool = False
    muon: bool = False
    micro_batch: int = 1  # windows
    accumulates: bool = False  # several micro-batches a step
    strategy: Strategy = "single"
    n_ranks: int = 1
    checkpointing: bool = False

    @property
    def product(self) -> int:
        """Bytes of a number in a product."""
        return 2 if self.bf16 else FP32

    @property
    def rows(self) -> int:
        """Positions in a micro-batch."""
        return self.micro_batch * self.model.context_length

    @property
    def shards(self) -> int:
        """Parts that weights, gradients and optimizer states are cut into."""
        return self.n_ranks if self.strategy == "fsdp" else 1

    @property
    def n_parameters(self) -> int:
        return parameters(self.model)

    @property
    def block_weights(self) -> int:
        """Numbers in the four matrices of a block."""
        return 12 * self.model.n_embd**2

    @property
    def is_short(self) -> bool:
        """Whether the formula is chosen for its speed: on a CPU in bf16, up to 512 keys."""
        dtype = torch.bfloat16 if self.bf16 else torch.float32
        keys = torch.empty(self.model.context_length, 1, dtype=dtype)
        return self.device == "cpu" and is_short(keys)

    @property
    def writes_attention_out(self) -> bool:
        """Whether the T x T weights are held: the fused kernel of a CPU draws no dropout."""
        return self.is_short or (self.device == "cpu" and self.model.dropout > 0)


# What autograd keeps ------------------------------------------------------------------------


def kept_by_block(setup: Setup) -> int:
    """Bytes for the backward pass of one block, without its copies of weights."""
    width, rows = setup.model.n_embd, setup.rows
    if setup.compiled:
        norms = FP32 * width + FP32 * (4 if setup.bf16 else 3)  # the block's input, deviations
        feedforward = setup.product * 10 * width  # attention's sum, the input, x, GELU's result
    else:
        norms = 2 * FP32 * (width + 1)
        feedforward = setup.product * 9 * width
    return rows * (norms + kept_by_attention(setup) + feedforward + kept_by_dropout(setup))


def kept_by_attention(setup: Setup) -> int:
    """Bytes a position: input, q, k, v, result, and the weights or the log-sums."""
    sizes, product = setup.model, setup.product
    linear = 2 * product * sizes.n_embd
    if not setup.writes_attention_out:
        return linear + 3 * product * sizes.n_embd + FP32 * sizes.n_head
    # where the fused kernel gives up, torch writes the formula out in fp32
    inside = product if setup.is_short else FP32
    weights = sizes.n_head * sizes.context_length
    kept = linear + inside * (3 * sizes.n_embd + weights)
    if sizes.dropout == 0:
        return kept
    return kept + inside * weights + weights * (1 if setup.compiled else inside)  # mask, or factors


def kept_by_dropout(setup: Setup) -> int:
    """Bytes a position, behind attention and feed-forward: masks, or factors."""
    if setup.model.dropout == 0:
        return 0
    masks = setup.device != "cpu" or setup.compiled
    return 2 * setup.model.n_embd * (1 if masks else setup.product)


def kept_outside_blocks(setup: Setup) -> int:
    """Token ids, positions, the last norm, and dropout behind the embeddings."""
    sizes, rows = setup.model, setup.rows
    ids = 8 * (rows + sizes.context_length)
    drawn = rows * sizes.n_embd * (FP32 if setup.device == "cpu" else 1) * (sizes.dropout > 0)
    return ids + drawn + rows * FP32 * (sizes.n_embd + 1)


def kept_by_head(setup: Setup) -> int:
    """The gradients by hidden states and by weight, which the loss computes on its way forward."""
    hidden_states = setup.product * setup.rows * setup.model.n_embd
    return hidden_states + FP32 * setup.model.vocab_size * setup.model.n_embd


def copied_weights(setup: Setup) -> int:
    """Of one block, in bf16; FSDP gathers bf16 in the first place."""
    return setup.block_weights * 2 if setup.bf16 and setup.strategy != "fsdp" else 0


def padded_vocabulary(setup: Setup) -> int:
    return -(-setup.model.vocab_size // ALIGNED) * ALIGNED


# The moments of a step ----------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """What one process needs: the parts at the moment when they are most together."""

    setup: Setup

    @cached_property
    def moment(self) -> str:
        """forward, backward, gathered or optimizer: where the peak is."""
        return max(self.moments, key=lambda name: sum(self.moments[name].values()))

    @property
    def parts(self) -> Parts:
        """Bytes at the peak."""
        return self.moments[self.moment]

    @property
    def peak(self) -> int:
        return sum(self.parts.values())

    @cached_property
    def moments(self) -> dict[str, Parts]:
        """What is held at each of them."""
        setup, stays = self.setup, standing(self.setup)
        gradients = FP32 * setup.n_parameters // setup.shards
        always = setup.accumulates or setup.strategy == "ddp"  # in the buckets of the exchange
        before = gradients if always else 0
        kept = kept_in_all(setup)
        head, logits = kept_by_head(setup), forward_of_head(setup)
        embedding = FP32 * setup.model.vocab_size * setup.model.n_embd
        own = 0 if always else FP32 * setup.block_weights
        return {
            "forward": stays
            | {"gradients": before, **kept, "output layer and loss": head + logits},
            "backward": stays
            | {"gradients": before + own, **kept, "output layer and loss": head}
            | {"working space": gradients_in_block(setup)},
            "gathered": stays
            | {"gradients": gradients, "output layer and loss": head, "working space": embedding},
            "optimizer": stays | {"gradients": gradients, "working space": muon_space(setup)},
        }


def standing(setup: Setup) -> Parts:
    """What is there all the time."""
    n_parameters = setup.n_parameters
    by_muon = setup.model.n_layer * setup.block_weights if setup.muon else 0
    states = 8 * (n_parameters - by_muon) + 4 * by_muon
    parts = {"weights": FP32 * n_parameters // setup.shards, "optimizer": states // setup.shards}
    if setup.strategy == "fsdp":
        root = n_parameters - setup.model.n_layer * setup.block_weights
        blocks = min(GATHERED_BLOCKS, setup.model.n_layer) * setup.block_weights
        whole = FP32 * (root + setup.block_weights)  # gradients before they are scattered
        parts["gathered weights"] = FP32 * root + setup.product * blocks + whole
    return parts


def kept_in_all(setup: Setup) -> Parts:
    """Activations and bf16 copies; with checkpointing one block's, and the others' inputs."""
    n_layer, block = setup.model.n_layer, kept_by_block(setup)
    outside = kept_outside_blocks(setup)
    copies = copied_weights(setup)
    if setup.checkpointing:
        inputs = n_layer * FP32 * setup.rows * setup.model.n_embd
        return {"activations": outside + inputs + block, "bf16 copies": copies}
    return {"activations": outside + n_layer * block, "bf16 copies": n_layer * copies}


def forward_of_head(setup: Setup) -> int:
    """The hidden states, the padded weights, a portion of logits, its softmax, its product."""
    sizes, product, vocabulary = setup.model, setup.product, padded_vocabulary(setup)
    n_parts = math.ceil(setup.rows * vocabulary / PRODUCT)
    logits = math.ceil(setup.rows / n_parts) * vocabulary
    softmax = min(logits, SOFTMAX) if setup.device == "cpu" else logits
    matrix = vocabulary * sizes.n_embd
    sums = product * matrix * (n_parts > 1 or setup.bf16)  # beside the one that is kept
    hidden_states = setup.rows * sizes.n_embd * (FP32 + product * setup.bf16)
    return hidden_states + product * (matrix + logits) + FP32 * softmax + sums


def gradients_in_block(setup: Setup) -> int:
    """The most that stand side by side in the backward pass of a block."""
    sizes, rows, product = setup.model, setup.rows, setup.product
    stream = FP32 * rows * sizes.n_embd
    inside = GELU_GRADIENTS * 4 * product * rows * sizes.n_embd
    if setup.writes_attention_out:
        # the feed-forward's own are gone by then
        weights = 3 * product * rows * sizes.n_head * sizes.context_length
        inside = max(inside, weights - product * 13 * rows * sizes.n_embd)
    return stream + inside


def muon_space(setup: Setup) -> int:
    """The largest stack of equal matrices, (C, 4 C) twice a block, on its way to orthogonal.

    In fp32: the momenta one step ahead, and stacked. In the products' precision: the stack, two
    iterates of it, and two squares of rows, a quarter of it each.
    """
    if not setup.muon:
        return 0
    numbers = 8 * setup.model.n_embd**2 * setup.model.n_layer
    stacks = 3.5 if setup.bf16 else 2.5  # in fp32 the stack is the one that is there
    return int(numbers * (2 * FP32 + stacks * setup.product))
