"""The generation engine: rows of any lengths grow together, each as if it were alone.

    complete        prompts -> finished rows
    generate_rows   the same, row states in and out, and a stop after each new token

Which of three ways the rows take, the settings decide: side by side in one batch (the loop of
generation.py for many rows), or one after the other by beam search or speculative decoding. A
row's text does not depend on its neighbours.
Previous: speculative.py.  Next: display.py.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from cfg_gpt2 import require
from decoding.batch import RowBatch
from decoding.beam import Beam, beam_search
from decoding.logits_processors import require_finite
from decoding.rows import RowState
from decoding.sampling import sample_rows
from decoding.settings import SamplingConfig
from decoding.speculative import Speculation
from gpt2 import GPT2Model
from tokenizer import Tokenizer


def complete(
    model: GPT2Model,
    prompts: list[list[int]],
    config: SamplingConfig,
    tokenizer: Tokenizer | None = None,
    speculation: Speculation | None = None,
) -> list[RowState]:
    """Returns a finished row per prompt: tokens, log-probabilities, the reason for the end.

    With a tokenizer also the text. Row number i draws with config.seed + i. Raises ValueError for
    an empty prompt, for token ids that the model does not have, and for settings that exclude
    each other.
    """
    rows = [RowState(prompt=p, seed=config.seed + i) for i, p in enumerate(prompts)]
    for _ in generate_rows(model, rows, config, tokenizer, speculation):
        pass
    return rows


@torch.inference_mode()
def generate_rows(
    model: GPT2Model,
    rows: list[RowState],
    config: SamplingConfig,
    tokenizer: Tokenizer | None = None,
    speculation: Speculation | None = None,
) -> Iterator[None]:
    """Extends the rows until each has ended; yields whenever there is something new.

    With a tokenizer, ids that have no token are never drawn: they have no text.
    Raises ValueError as `complete` does.
    """
    if tokenizer:
        config = suppress_unknown_ids(config, model.config.vocab_size, tokenizer)
    start_rows(model, rows, config, tokenizer)
    if config.beams > 1:
        require(speculation is None, "beams and speculation exclude each other; choose one")
        yield from generate_beams(model, rows, config)
    elif speculation:
        yield from generate_speculative(model, rows, config, speculation)
    elif rows:
        yield from generate_batch(model, rows, config)


def suppress_unknown_ids(
    config: SamplingConfig, vocab_size: int, tokenizer: Tokenizer
) -> SamplingConfig:
    """Returns settings by which ids without a token are drawn only where they end a text.

    Imported models may have more embeddings than tokens, to round the size up.
    """
    unknown = set(tokenizer.ids_without_token(vocab_size)).difference(config.stop_tokens)
    return replace(config, suppress_tokens=(*config.suppress_tokens, *sorted(unknown)))


def start_rows(
    model: GPT2Model, rows: list[RowState], config: SamplingConfig, tokenizer: Tokenizer | None
) -> None:
    """Checks prompts and settings against the model, and seeds the rows.

    Raises ValueError where they do not fit.
    """
    vocab_size = model.config.vocab_size
    config.require_ids(vocab_size)
    require(not config.stop or tokenizer is not None, "stop strings need a tokenizer; give one")
    for number, row in enumerate(rows):
        require(
            len(row.prompt) > 0,
            f"prompt {number} is empty; give at least one token to go on from",
        )
        for token in (min(row.prompt), max(row.prompt)):
            require(
                0 <= token < vocab_size,
                f"prompt {number} has token id {token}; the model has 0 to {vocab_size - 1}, "
                "so use the tokenizer that it was trained with",
            )
    for row in rows:
        row.start(config, tokenizer, model.device)


def generate_batch(
    model: GPT2Model, rows: list[RowState], config: SamplingConfig
) -> Iterator[None]:
    """Gives every row one token per step; rows that have ended leave the batch."""
    by_length = sorted(rows, key=lambda row: len(row.prompt))  # neighbours are padded to one length
    batch = RowBatch(model, by_length, config.max_new_tokens)
    logits = batch.prefill()
    while True:
        try:
            tokens = sample_rows(logits, batch.rows, config)  # (B, 1)
        except RuntimeError:  # multinomial refuses nan
            require_finite(logits)
            raise
        log_normalizer = logits.logsumexp(dim=-1, keepdim=True)  # (B, 1)
        log_probability = logits.gather(-1, tokens) - log_normalizer  # (B, 1)
        new = zip(tokens[:, 0].tolist(), log_probability[:, 0].tolist(), strict=True)
        for row, (token, value) in zip(batch.rows, new, strict=True):
            if not math.isfinite(value):
                require_finite(logits)
            row.add(token, value, config)
        yield
        unfinished = [i for i, row in enumerate(batch.rows) if not row.is_done]
        if not unfinished:
            return
        if len(unfinished) < len(batch.rows):
            batch.keep(unfinished)
            tokens = tokens[unfinished]
        logits = batch.step(tokens)


def generate_speculative(
    model: GPT2Model, rows: list[RowState], config: SamplingConfig, speculation: Speculation
) -> Iterator[None]:
    """Extends row after row, by up to n_proposals + 1 tokens per pass."""
    for row in rows:
        yield from speculation.generate(model, row, config)


def generate_beams(
    model: GPT2Model, rows: list[RowState], config: SamplingConfig
) -> Iterator[None]:
    """Searches row after row; the best text is known only when a search has ended."""
    results: dict[tuple[int, ...], list[Beam]] = {}
    for row in rows:
        prompt = tuple(row.prompt)
        if prompt not in results:
            results[prompt] = beam_search(model, row.prompt, config)
        beams = results[prompt]
        require(row.rank < len(beams), f"there are only {len(beams)} texts; ask for fewer")
        beam = beams[row.rank]
        for token, log_probability in zip(beam.tokens, beam.log_probabilities, strict=True):
            row.add(token, log_probability, config)
        yield


def cache_bytes(model: GPT2Model, batch_size: int, n_tokens: int) -> int:
    """Returns the memory of the cache for texts of n_tokens, the prompt included."""
    n_positions = min(n_tokens, model.config.context_length)
    numbers = 2 * model.config.n_layer * batch_size * n_positions * model.config.n_embd
    return numbers * model.dtype.itemsize
