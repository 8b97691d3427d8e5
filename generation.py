"""Generation: the model reads what it has written, chooses one more token, and reads again.

    p = softmax(filters(logits)); the next token is drawn from p, or is the likeliest

Each token is computed once: keys and values of earlier positions stay in a cache. Texts longer
than the context go on by a window: when it is full, the older half is forgotten and the newer
half is read again. The parts stand in decoding/, in the order of reading: settings, filters,
choice, stops, completion, batch, beam, speculative.
Previous: load_data.py.  Next: trainer.py.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from cfg_gpt2 import require
from decoding.batch import Batch
from decoding.beam import Beam, beam_search
from decoding.choice import choose
from decoding.completion import Completion, Pen
from decoding.settings import SamplingConfig
from decoding.speculative import Speculation
from gpt2 import GPT2Model
from tokenizer import Tokenizer

__all__ = ["Completion", "SamplingConfig", "cache_bytes", "complete", "generate", "stream", "write"]


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
    speculation: Speculation | None = None,
) -> list[Completion]:
    """`generate` with log-probabilities, the reason for the end and, by a tokenizer, the text."""
    rows = [Completion(prompt=p, seed=config.seed + i) for i, p in enumerate(prompts)]
    for _ in write(model, rows, config, tokenizer, speculation):
        pass
    return rows


@torch.inference_mode()
def write(
    model: GPT2Model,
    rows: list[Completion],
    config: SamplingConfig,
    tokenizer: Tokenizer | None = None,
    speculation: Speculation | None = None,
) -> Iterator[None]:
    """Lets the rows grow until each has ended; yields as soon as there is something new.

    All rows grow together, by a token at a time; with beams or by speculation, row after row.
    """
    pens = ready(model, rows, config, tokenizer)
    if config.beams > 1:
        require(speculation is None, "beams and speculation exclude each other; choose one")
        yield from write_beams(model, pens, config)
    elif speculation:
        yield from write_by_guesses(model, pens, config, speculation)
    elif pens:
        yield from write_together(model, pens, config)


def write_together(model: GPT2Model, pens: list[Pen], config: SamplingConfig) -> Iterator[None]:
    """One token for every row, again and again; what has ended leaves the batch."""
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


def write_by_guesses(
    model: GPT2Model, pens: list[Pen], config: SamplingConfig, speculation: Speculation
) -> Iterator[None]:
    """Row after row, several tokens a pass."""
    for pen in pens:
        for token, log_probability in speculation.write(
            model, pen.row.prompt, config, pen.generator
        ):
            pen.add(token, log_probability)
            yield
            if pen.row.reason is not None:
                break


def write_beams(model: GPT2Model, pens: list[Pen], config: SamplingConfig) -> Iterator[None]:
    """Row after row, each at once: which text is the best is known at the end."""
    found: dict[tuple[int, ...], list[Beam]] = {}
    for pen in pens:
        prompt = tuple(pen.row.prompt)
        if prompt not in found:
            found[prompt] = beam_search(model, pen.row.prompt, config)
        beams = found[prompt]
        require(pen.row.rank < len(beams), f"there are only {len(beams)} texts; ask for fewer")
        beam = beams[pen.row.rank]
        for token, log_probability in zip(beam.tokens, beam.log_probabilities, strict=True):
            pen.add(token, log_probability)
        yield


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
        for token in (min(row.prompt), max(row.prompt)):
            require(
                0 <= token < vocab_size,
                f"prompt {number} has token id {token}; the model has 0 to {vocab_size - 1}, "
                "so use the tokenizer that it was trained with",
            )
    device = model.device
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
    return numbers * model.dtype.itemsize
