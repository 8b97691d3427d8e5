"""The score of a text: the sum of a model's losses over its tokens, in nats.

    loss          = nats / tokens scored
    perplexity    = exp(loss)
    bits per byte = nats / (ln 2 * bytes of the text)

Every token counts: the first one of a document is predicted from <|endoftext|>, and <|endoftext|>
itself is predicted at the document's end. The bytes are those of the text alone.
Previous: windows.py.  Next: measure_task.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cfg_gpt2 import require
from evaluation.windows import window_batches
from gpt2 import GPT2Model
from load_data import Split
from loss import bits_per_byte, perplexity
from training.kernels.cross_entropy import scored_cross_entropy
from training.runtime import Runtime

TOKENS_PER_BATCH = {"cpu": 4096}  # enough to use all cores
TOKENS_PER_BATCH_ON_GPU = 65536
Report = Callable[[int], None]  # is called with the number of targets or items scored so far


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """The losses of a model on a text, summed, and what they are divided by."""

    nats: float
    n_tokens: int  # that were scored
    n_windows: int
    n_bytes: int  # of the text

    @property
    def loss(self) -> float:
        """The mean loss in nats per token."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        """exp of the loss, which depends on the tokenizer."""
        return perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """The sum of the losses in bits, divided by the bytes of the text."""
        return bits_per_byte(self.nats, self.n_bytes)


@torch.inference_mode()
def score_text(
    model: GPT2Model,
    split: Split,
    end_of_text: int,
    stride: int,
    runtime: Runtime,
    report: Report,
    batch_size: int | None = None,
) -> TextScore:
    """Scores every token of a split exactly once.

    report is called with the number of tokens scored so far. Raises ValueError where the model
    gives nan.
    """
    context_length = model.config.context_length
    batch_size = batch_size or rows_per_batch(context_length, runtime)
    nats, n_tokens, n_windows = 0.0, 0, 0
    batches = window_batches(split, context_length, stride, batch_size, end_of_text)
    for tokens, targets in batches:
        with runtime.autocast():
            hidden_states = model.hidden_states(runtime.to_device(tokens))
            total, count = scored_cross_entropy(
                hidden_states, model.lm_head.weight, runtime.to_device(targets)
            )
        nats, n_tokens = nats + total.item(), n_tokens + int(count)
        n_windows += len(tokens)
        require_not_nan(nats)
        report(n_tokens)
    return TextScore(nats=nats, n_tokens=n_tokens, n_windows=n_windows, n_bytes=split.n_bytes)


def rows_per_batch(n_tokens: int, runtime: Runtime) -> int:
    """Returns how many rows of n_tokens are computed together."""
    return max(1, TOKENS_PER_BATCH.get(runtime.device.type, TOKENS_PER_BATCH_ON_GPU) // n_tokens)


def require_not_nan(nats: float) -> None:
    """Raises ValueError for nan and infinities, with what to do about it."""
    require(
        math.isfinite(nats),
        "the model gives nan for probabilities: its training has diverged; train it again, "
        "with a lower --train.learning-rate",
    )
