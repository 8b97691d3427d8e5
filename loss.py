"""The loss: how many nats the model pays for each next token.

    loss = -log softmax(logits)[target],   the mean over all targets
    bits per byte = nats / (ln 2 * bytes of the text);   perplexity = exp(loss)

A token's loss depends on the tokenizer (long tokens are hard to guess, but few); bits per byte
does not, so it compares models with different vocabularies.           Shannon 1948; Gao et al. 2020
Previous: gpt2.py.  Next: tokenizer.py.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE_INDEX = -100  # a target with this value does not count
ALIGNED = 64  # products with 50,257 columns take up to twice the time of ones with 50,304
PRODUCT = 1 << 26  # logits that are held at a time: 128 MB in bf16
SOFTMAX = 1 << 19  # logits that a CPU turns into probabilities at a time: 2 MB, within its cache
ROWS, COLUMNS = 512, 2048  # of a product on a CPU at a time: larger ones take up to twice as long


def next_token_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, V), (B, T) -> the sum of the losses in nats, and the count of targets.

    Sum and count stay apart, so that batches, accumulation steps and processes can be added
    up exactly and divided once.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    return total, (targets != IGNORE_INDEX).sum()


def head_loss(features: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """next_token_loss(features @ weight.T, targets) without holding all logits in memory.

    (B, T, C), (V, C), (B, T) -> the sum in nats, and the count of targets. Under autocast the
    products run in its dtype, as they do in the output layer.
    """
    rows = features.flatten(0, 1), weight, targets.flatten()
    total = HeadLoss.apply(*rows, torch.is_grad_enabled())
    return total, (targets != IGNORE_INDEX).sum()


class HeadLoss(torch.autograd.Function):
    """Output layer and cross-entropy in one, some rows at a time.

    The gradient of a row's loss by its logits is softmax(logits) - onehot(target). It is known as
    soon as the logits are, so it takes their place in memory and is multiplied on at once; the
    backward pass has nothing left to do but to scale. The vocabulary is padded to a multiple of
    ALIGNED by tokens of probability 0: wider rows, and faster products.
    """

    @staticmethod
    def forward(ctx, features: Tensor, weight: Tensor, targets: Tensor, train: bool) -> Tensor:
        """Features of some positions, the head, their targets -> the sum of the losses."""
        device, vocab_size = features.device.type, weight.size(0)
        cast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if cast else features.dtype
        padded = weight.new_empty(-(-vocab_size // ALIGNED) * ALIGNED, weight.size(1), dtype=dtype)
        padded[:vocab_size], padded[vocab_size:] = weight, 0
        total, by_features, by_weight = torch.zeros((), device=features.device), [], None
        n_parts = -(-features.size(0) * len(padded) // PRODUCT)
        with torch.autocast(device, enabled=False):
            for x, wanted in zip(
                features.to(dtype).chunk(n_parts), targets.chunk(n_parts), strict=True
            ):
                logits = x.new_empty(len(x), len(padded))
                for tokens, part in zip(*columns(padded, logits), strict=True):
                    torch.mm(x, tokens.T, out=part)
                logits[:, vocab_size:] = -math.inf
                total = total + loss_and_gradient(logits, wanted, train)
                if train:
                    by_features += [part @ padded for part in rows(logits, ROWS)]
                    by_weight = add_products(by_weight, logits[:, :vocab_size], x, weight.dtype)
        if by_weight is not None:
            ctx.save_for_backward(torch.cat(by_features), by_weight)
        ctx.dtype = features.dtype
        return total

    @staticmethod
    def backward(ctx, *above: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """The gradients by features and weight, times the one that comes from above."""
        (scale,) = above
        by_features, by_weight = ctx.saved_tensors
        if not (scale.device.type == "cpu" and scale == 1):  # a GPU would have to be waited for
            by_features, by_weight = by_features * scale, by_weight * scale
        return by_features.to(ctx.dtype), by_weight, None, None


def rows(tensor: Tensor, n_rows: int) -> tuple[Tensor, ...]:
    """On a CPU parts of so many rows; elsewhere the whole."""
    return tensor.split(n_rows) if tensor.device.type == "cpu" else (tensor,)


def columns(vectors: Tensor, logits: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """For some tokens of the vocabulary at a time: their vectors, and their logits."""
    return rows(vectors, COLUMNS), tuple(part.T for part in rows(logits.T, COLUMNS))


def add_products(sums: Tensor | None, logits: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    """sums + logits^T x in dtype, some tokens' at a time; None stands for zeros."""
    is_first = sums is None
    if sums is None:
        sums = x.new_empty(logits.size(1), x.size(1), dtype=dtype)
    for vectors, part in zip(*columns(sums, logits), strict=True):
        product = part.T @ x
        vectors.copy_(product) if is_first else vectors.add_(product)
    return sums


def loss_and_gradient(logits: Tensor, targets: Tensor, gradient: bool) -> Tensor:
    """-> the sum of the losses; the gradient by the logits, if asked for, takes their place."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    total = logits.new_zeros((), dtype=wide)
    n_rows = max(1, SOFTMAX // logits.size(1)) if logits.device.type == "cpu" else len(logits)
    for part, wanted in zip(logits.split(n_rows), targets.split(n_rows), strict=True):
        counts = wanted != IGNORE_INDEX
        index = wanted.where(counts, 0).unsqueeze(1)
        log_p = part.log_softmax(dim=-1, dtype=wide)
        total -= log_p.gather(1, index).squeeze(1).where(counts, 0).sum()
        if gradient:
            p = log_p.exp_()
            p.scatter_add_(1, index, p.new_full(index.shape, -1))
            part.copy_(p.mul_(counts.unsqueeze(1)))
    return total


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """The code length of a text of n_bytes bytes in bits per byte, when a model pays `nats`."""
    return nats / (math.log(2) * n_bytes)


def perplexity(nats_per_token: float) -> float:
    """The number of equally likely tokens that would be as hard to guess; inf past 1e308."""
    return math.exp(nats_per_token) if nats_per_token < 709 else math.inf
