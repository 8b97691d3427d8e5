"""Generation: the model reads what it has written, chooses one more token, and reads again.

    p = softmax(filters(logits)); the next token is drawn from p, or is the likeliest

Each token is computed once: keys and values of earlier positions stay in a cache. Texts longer
than the context go on by a window: when it is full, the older half is forgotten and the newer
half is read again. The parts stand in decoding/: settings, filters, choice, stops, batch.
Read before: load_data.py.  Read next: trainer.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from cfg_gpt2 import require
from decoding.batch import Batch
from decoding.choice import choose
from decoding.settings import SamplingConfig
from decoding.stops import SafeText
from gpt2 import GPT2Model
from tokenizer import Tokenizer

__all__ = ["Completion", "SamplingConfig", "cache_bytes", "complete", "generate", "stream", "write"]

Reason = Literal["length", "stop_token", "stop_string"]


@dataclass(kw_only=True)
class Completion:
    """One text while it is being written, and in the end why it ended."""

    prompt: list[int]
    seed: int
    tokens: list[int] = field(default_factory=list)  # the new ones, without a stop token
    log_probabilities: list[float] = field(default_factory=list)  # of the model, unfiltered
    text: str = ""  # of the new tokens: before any stop string, without half a character
    reason: Reason | None = None  # why it ended; None: it has not


def generate(
    model: GPT2Model,
    prompts: list[list[int]],
    config: SamplingConfig,
    stop_token: int | None = None,
) -> list[list[int]]:
    """Prompts -> the new tokens of each, without the prompt and without stop_token.

    Prompt number i draws with seed + i and comes out as if alone.
    Raises ValueError for an empty prompt, and for ids that the model does not have.
    """
    return [row.tokens for row in complete(model, prompts, with_stop(config, stop_token))]


def stream(
    model: GPT2Model, prompt: list[int], config: SamplingConfig, stop_token: int | None = None
) -> Iterator[int]:
    """Yields the new tokens of one prompt, each as soon as it is chosen."""
    row, shown = Completion(prompt=prompt, seed=config.seed), 0
    for _ in write(model, [row], with_stop(config, stop_token)):
        yield from row.tokens[shown:]
        shown = len(row.tokens)


def complete(
    model: GPT2Model,
    prompts: list[list[int]],
    config: SamplingConfig,
    tokenizer: Tokenizer | None = None,
) -> list[Completion]:
    """`generate` with log-probabilities, the reason for the end and, by a tokenizer, the text."""
    rows = [Completion(prompt=p, seed=config.seed + i) for i, p in enumerate(prompts)]
    for _ in write(model, rows, config, tokenizer):
        pass
    return rows


@torch.inference_mode()
def write(
    model: GPT2Model,
    rows: list[Completion],
    config: SamplingConfig,
    tokenizer: Tokenizer | None = None,
) -> Iterator[None]:
    """Lets the rows grow, all by a token between two yields, until each has ended."""
    pens = ready(model, rows, config, tokenizer)
    if not pens:
        return
    pens.sort(key=lambda pen: len(pen.row.prompt))  # neighbours are padded to one length
    batch = Batch(model, [pen.row.prompt for pen in pens], config.max_new_tokens)
    logits = batch.read()
    while True:
        prompts, written = [p.row.prompt for p in pens], [p.row.tokens for p in pens]
        chosen = choose(logits, prompts, written, config, [p.generator for p in pens])  # (B, 1)
        spread = logits.logsumexp(dim=-1, keepdim=True)  # (B, 1)
        likely = logits.gather(-1, chosen) - spread  # (B, 1)
        pairs = zip(chosen[:, 0].tolist(), likely[:, 0].tolist(), strict=True)
        for pen, (token, log_probability) in zip(pens, pairs, strict=True):
            pen.add(token, log_probability)
        yield
        going = [i for i, pen in enumerate(pens) if pen.row.reason is None]
        if not going:
            return
        if len(going) < len(pens):
            pens = [pens[i] for i in going]
            batch.keep(going)
            chosen = chosen[going]
        logits = batch.step(chosen)


class Pen:
    """Writes one row: its random numbers, and what may end it."""

    def __init__(
        self,
        row: Completion,
        config: SamplingConfig,
        tokenizer: Tokenizer | None,
        device: torch.device,
    ) -> None:
        self.row, self.config = row, config
        self.generator = torch.Generator(device).manual_seed(row.seed)
        self.safe = SafeText(tokenizer.decode_stream(), config.stop) if tokenizer else None

    def add(self, token: int, log_probability: float) -> None:
        """One more token, which may be the end."""
        row = self.row
        if token in self.config.stop_tokens:
            row.reason = "stop_token"
        else:
            row.tokens.append(token)
            row.log_probabilities.append(log_probability)
            if self.safe:
                row.text += self.safe.step(token)
                if self.safe.found is not None:
                    row.reason = "stop_string"
        if row.reason is None and len(row.tokens) == self.config.max_new_tokens:
            row.reason = "length"
        if row.reason and self.safe:
            row.text += self.safe.finish()


def ready(
    model: GPT2Model,
    rows: list[Completion],
    config: SamplingConfig,
    tokenizer: Tokenizer | None,
) -> list[Pen]:
    """A pen for each row. Raises ValueError where prompts or settings do not fit the model."""
    vocab_size = model.config.vocab_size
    config.require_ids(vocab_size)
    require(not config.stop or tokenizer is not None, "stop strings need a tokenizer; give one")
    for number, row in enumerate(rows):
        require(
            len(row.prompt) > 0,
            f"prompt {number} is empty; give at least one token to go on from",
        )
        wrong = [token for token in row.prompt if not 0 <= token < vocab_size]
        require(
            not wrong,
            f"prompt {number} has token id {wrong[:1]}; the model has 0 to {vocab_size - 1}, "
            "so use the tokenizer that it was trained with",
        )
    device = model.token_embedding.weight.device
    return [Pen(row, config, tokenizer, device) for row in rows]


def with_stop(config: SamplingConfig, stop_token: int | None) -> SamplingConfig:
    """The settings, with one more token that ends a text."""
    if stop_token is None:
        return config
    return replace(config, stop_tokens=(*config.stop_tokens, stop_token))


def cache_bytes(model: GPT2Model, batch_size: int, n_tokens: int) -> int:
    """The memory of the cache for texts of n_tokens, prompt and continuation together."""
    n_positions = min(n_tokens, model.config.context_length)
    numbers = 2 * model.config.n_layer * batch_size * n_positions * model.config.n_embd
    return numbers * model.token_embedding.weight.element_size()
