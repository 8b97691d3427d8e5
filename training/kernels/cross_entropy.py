"""Fused linear cross-entropy: the output layer and the loss in one, some rows at a time.

    logits     = h W^T                                      (R, V), some rows of R at a time
    loss       = -sum over rows of log softmax(logits)[target]
    dL/dlogits = softmax(logits) - onehot(target)
    dL/dh      = dL/dlogits W,      dL/dW = dL/dlogits^T h

The logits of GPT-2 are the largest tensor of a training step, and here they never exist as a
whole. The gradient of a row's loss by its logits is known as soon as the logits are, so it takes
their place in memory and is multiplied on at once; backward has nothing left to do but to scale.
Previous: attention.py.  Next: ../runtime.py.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from training.sums import Sums

VOCAB_MULTIPLE = 64  # matmuls with 50,257 columns take up to twice the time of those with 50,304
MAX_LOGITS = 1 << 26  # logits that are held at a time: 128 MB in bf16
SOFTMAX_CHUNK = 1 << 19  # logits of one softmax on a CPU: 2 MB in fp32, within its cache
ROW_CHUNK = 512  # rows of one matmul on a CPU; larger matmuls take up to twice as long
COLUMN_CHUNK = 2048  # columns of one matmul on a CPU

Gradients = tuple[Tensor | None, Tensor | None, None, None, None]


@dataclass(frozen=True, kw_only=True)
class ChunkSizes:
    """How many numbers are computed at a time; the result is the same to the rounding of sums."""

    max_logits: int = MAX_LOGITS
    softmax: int = SOFTMAX_CHUNK
    rows: int = ROW_CHUNK
    columns: int = COLUMN_CHUNK


def fused_language_model_loss(
    model: GPT2Model, batch: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Sums]:
    """Returns trainer.language_model_loss of a batch without holding all logits in memory.

    batch holds tokens and targets, (B, T) each. The result is the sum of losses in nats, the
    number of targets, and no further sums.
    """
    tokens, targets = batch
    return *linear_cross_entropy(model.hidden_states(tokens), model.lm_head.weight, targets), {}


def linear_cross_entropy(
    hidden_states: Tensor, weight: Tensor, targets: Tensor, sizes: ChunkSizes | None = None
) -> tuple[Tensor, Tensor]:
    """Returns next_token_loss(hidden_states @ weight.T, targets): the sum in nats, the count.

    (B, T, C), (V, C), (B, T) -> two scalars. Under autocast the matmuls run in its dtype, as
    they do in the output layer.
    """
    total = LinearCrossEntropyFunction.apply(
        hidden_states.flatten(0, 1),
        weight,
        targets.flatten(),
        torch.is_grad_enabled(),
        sizes or ChunkSizes(),
    )
    return total, (targets != IGNORE_INDEX).sum()


def scored_cross_entropy(
    hidden_states: Tensor, weight: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns linear_cross_entropy of the positions with a target; the others cost no matmul.

    A GPU is waited for once, for the number of these positions.
    """
    scored = (targets.flatten() != IGNORE_INDEX).nonzero().squeeze(1)  # (R,)
    rows = hidden_states.flatten(0, 1).index_select(0, scored)  # (R, C)
    return linear_cross_entropy(rows[None], weight, targets.flatten()[scored][None])


class LinearCrossEntropyFunction(torch.autograd.Function):
    """The sum of losses, with the gradients computed on the way forward.

    The vocabulary is padded to a multiple of VOCAB_MULTIPLE by tokens of probability 0.
    """

    @staticmethod
    def forward(
        ctx, hidden: Tensor, weight: Tensor, targets: Tensor, train: bool, sizes: ChunkSizes
    ) -> Tensor:
        """(R, C), (V, C), (R,) -> the sum of losses. train: whether a gradient may be needed."""
        needs_hidden, needs_weight = (train and needed for needed in ctx.needs_input_grad[:2])
        padded = padded_weight(weight, matmul_dtype(hidden))
        total, grad_hidden, grad_weight = torch.zeros((), device=hidden.device), [], None
        n_chunks = max(1, -(-hidden.size(0) * len(padded) // sizes.max_logits))
        chunks = hidden.to(padded.dtype).chunk(n_chunks), targets.chunk(n_chunks)
        with torch.autocast(hidden.device.type, enabled=False):
            for x, targets_of_x in zip(*chunks, strict=True):
                logits = logits_of(x, padded, len(weight), sizes)
                total = total + loss_and_grad_logits(logits, targets_of_x, train, sizes)
                if needs_hidden:
                    grad_hidden += [rows @ padded for rows in split_on_cpu(logits, sizes.rows)]
                if needs_weight:
                    grad_logits = logits[:, : len(weight)]
                    grad_weight = add_matmul(grad_weight, grad_logits, x, weight.dtype, sizes)
        ctx.save_for_backward(torch.cat(grad_hidden) if grad_hidden else None, grad_weight)
        ctx.dtype = hidden.dtype
        return total

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Gradients:
        """dL/dloss -> dL/dhidden, dL/dweight."""
        (scale,) = grad_outputs
        grad_hidden, grad_weight = ctx.saved_tensors
        is_one = scale.device.type == "cpu" and scale == 1  # the comparison would sync a GPU
        if grad_hidden is not None:
            grad_hidden = (grad_hidden if is_one else grad_hidden * scale).to(ctx.dtype)
        if grad_weight is not None and not is_one:
            grad_weight = grad_weight * scale
        return grad_hidden, grad_weight, None, None, None


def matmul_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype of a matmul with x: autocast's where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def padded_weight(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a copy of weight, (V, C), in dtype with rows of zeros up to VOCAB_MULTIPLE."""
    vocab_size, n_embd = weight.shape
    n_rows = -(-vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
    padded = weight.new_empty(n_rows, n_embd, dtype=dtype)
    padded[:vocab_size], padded[vocab_size:] = weight, 0
    return padded


def logits_of(x: Tensor, padded: Tensor, vocab_size: int, sizes: ChunkSizes) -> Tensor:
    """Returns the logits of rows x, some columns at a time, with -inf for the padding."""
    logits = x.new_empty(len(x), len(padded))
    for weight, columns in zip(*split_vocabulary(padded, logits, sizes.columns), strict=True):
        torch.mm(x, weight.T, out=columns)
    logits[:, vocab_size:] = -math.inf
    return logits


def add_matmul(
    total: Tensor | None, grad_logits: Tensor, x: Tensor, dtype: torch.dtype, sizes: ChunkSizes
) -> Tensor:
    """Returns total + grad_logits^T x in dtype, some tokens at a time; None stands for zeros."""
    is_first = total is None
    if total is None:
        total = x.new_empty(grad_logits.size(1), x.size(1), dtype=dtype)
    for rows, columns in zip(*split_vocabulary(total, grad_logits, sizes.columns), strict=True):
        product = columns.T @ x
        rows.copy_(product) if is_first else rows.add_(product)
    return total


def loss_and_grad_logits(logits: Tensor, targets: Tensor, train: bool, sizes: ChunkSizes) -> Tensor:
    """Returns the sum of losses; with train, writes dL/dlogits in the place of the logits."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    total = logits.new_zeros((), dtype=wide)
    on_cpu = logits.device.type == "cpu"
    n_rows = max(1, sizes.softmax // logits.size(1)) if on_cpu else len(logits)
    for rows, targets_of_rows in zip(logits.split(n_rows), targets.split(n_rows), strict=True):
        counts = targets_of_rows != IGNORE_INDEX
        index = targets_of_rows.where(counts, 0).unsqueeze(1)
        log_p = rows.log_softmax(dim=-1, dtype=wide)
        total -= log_p.gather(1, index).squeeze(1).where(counts, 0).sum()
        if train:
            p = log_p.exp_()
            p.scatter_add_(1, index, p.new_full(index.shape, -1))
            rows.copy_(p.mul_(counts.unsqueeze(1)))
    return total


def split_on_cpu(tensor: Tensor, n_rows: int) -> tuple[Tensor, ...]:
    """Returns chunks of n_rows rows on a CPU, elsewhere the whole tensor."""
    return tensor.split(n_rows) if tensor.device.type == "cpu" else (tensor,)


def split_vocabulary(
    rows: Tensor, columns: Tensor, n_tokens: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Returns views of some tokens at a time: rows of one tensor, columns of another.

    (V, C), (R, V) -> (n_tokens, C) each, and (R, n_tokens) each.
    """
    of_columns = tuple(part.T for part in split_on_cpu(columns.T, n_tokens))
    return split_on_cpu(rows, n_tokens), of_columns
