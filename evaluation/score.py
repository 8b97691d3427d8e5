"""The score of a text: what a model pays for it, in nats.

    loss          = nats / tokens scored
    perplexity    = exp(loss)
    bits per byte = nats / (ln 2 * bytes of the text)

A token is scored wherever it stands: the first one of a document is guessed from <|endoftext|>,
and so is <|endoftext|> itself at the document's end. Bytes are those of the text alone.
Previous: windows.py.  Next: continuations.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cfg_gpt2 import require
from evaluation.windows import window_batches
from gpt2 import GPT2Model
from load_data import Split
from loss import IGNORE_INDEX, bits_per_byte, head_loss, perplexity
from training.runtime import Runtime

TOKENS_AT_A_TIME = {"cpu": 4096}  # as much as keeps a CPU busy
TOKENS_ON_GPU = 65536
Report = Callable[[int], None]  # how many targets are scored


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """What a model pays for a text."""

    nats: float
    n_tokens: int  # that were scored
    n_windows: int
    n_bytes: int  # of the text

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        return perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float:
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
    """Every token of a split, once. Raises ValueError where the model's numbers are none."""
    context_length = model.config.context_length
    batch_size = batch_size or rows_at_a_time(context_length, runtime)
    nats, n_tokens, n_windows = 0.0, 0, 0
    batches = window_batches(split, context_length, stride, batch_size, end_of_text)
    for tokens, targets in batches:
        with runtime.autocast():
            hidden_states = model.hidden_states(runtime.to_device(tokens))
            total, count = scored_loss(model, hidden_states, runtime.to_device(targets))
        nats, n_tokens = nats + total.item(), n_tokens + int(count)
        n_windows += len(tokens)
        require_number(nats)
        report(n_tokens)
    return TextScore(nats=nats, n_tokens=n_tokens, n_windows=n_windows, n_bytes=split.n_bytes)


def scored_loss(model: GPT2Model, hidden_states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, C), (B, T) -> sum in nats and count; what is not scored takes no output layer."""
    scored = targets != IGNORE_INDEX
    rows = hidden_states[scored].unsqueeze(0), targets[scored].unsqueeze(0)
    return head_loss(rows[0], model.lm_head.weight, rows[1])


def rows_at_a_time(n_tokens: int, runtime: Runtime) -> int:
    """How many rows of n_tokens are computed together."""
    return max(1, TOKENS_AT_A_TIME.get(runtime.device.type, TOKENS_ON_GPU) // n_tokens)


def require_number(nats: float) -> None:
    require(
        nats == nats,  # nan is not
        "the model gives nan for probabilities: its training has diverged; train it again, "
        "with a lower --train.learning-rate",
    )
