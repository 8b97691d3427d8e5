"""Logits processors: what changes the logits before the next token is chosen, in this order.

For every way of choosing, on the logits l (beam search: on the log-probabilities)
    logit bias           l[t] + bias
    repetition penalty   l / r where l > 0, else l r, for t in the text     Keskar et al. 2019
    frequency, presence  l - frequency count(t) - presence [count(t) > 0],  OpenAI's API reference
                         counted in the new tokens, without the prompt
    no repeated n-gram   -inf for t that would complete an n-gram of the text
                                                                            Paulus et al. 2017
    banned sequences     -inf for t that would complete one
    suppressed tokens    -inf for t in suppress_tokens, such as ids that have no text
    min new tokens       -inf for stop tokens before then
Where the token is drawn at random (logits warpers)
    temperature          l / temperature
    top-k                -inf for all but the k most likely tokens          Fan et al. 2018
    top-p                -inf outside the smallest set of most likely tokens that holds p
                                                                            Holtzman et al. 2020
    min-p                -inf below min_p times the highest probability     Nguyen et al. 2024
The order is that of Hugging Face's `_get_logits_processor`, which has neither frequency nor
presence; vLLM puts these two behind the repetition penalty, too. "The text" is the prompt and the
new tokens, of each row its own: no row changes another.
Previous: rows.py.  Next: sampling.py.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cfg_gpt2 import require
from decoding.rows import TokenRow
from decoding.settings import SamplingConfig

TOP_P_CANDIDATES = 1024  # top-p sorts so many first; a whole vocabulary would cost milliseconds


def process_logits(logits: Tensor, rows: Sequence[TokenRow], config: SamplingConfig) -> Tensor:
    """(B, V) -> (B, V): the processors that hold for every way of choosing.

    Raises ValueError where no token is left.
    """
    logits = add_bias(logits, config.logit_bias)
    logits = penalize_repetition(logits, rows, config.repetition_penalty)
    logits = penalize_frequency(logits, rows, config.frequency_penalty, config.presence_penalty)
    logits = ban_repeated_ngrams(logits, rows, config.no_repeat_ngram)
    logits = ban_sequences(logits, rows, config.banned)
    logits = suppress(logits, config.suppress_tokens)
    logits = ban_early_stops(logits, rows, config.min_new_tokens, config.stop_tokens)
    if config.no_repeat_ngram or config.banned or config.suppress_tokens or config.logit_bias:
        require(
            bool((logits.amax(dim=-1) > -math.inf).all()),
            "no token is left to choose; loosen --no-repeat-ngram, --ban or --logit-bias",
        )
    return logits


def require_finite(logits: Tensor) -> None:
    """Raises ValueError where a logit is nan or infinite, as those of a diverged model are."""
    require(
        bool(logits.isfinite().all()),
        "the model gives nan or infinite logits: its training has diverged; name another run, or "
        "train it again with a lower --train.learning-rate",
    )


def warp_logits(logits: Tensor, config: SamplingConfig) -> Tensor:
    """(B, V) -> (B, V): the processors for random sampling; temperature must be above 0."""
    logits = logits / config.temperature
    logits = keep_top_k(logits, config.top_k)
    logits = keep_top_p(logits, config.top_p)
    return keep_min_p(logits, config.min_p)


# For every way of choosing ------------------------------------------------------------------


def add_bias(logits: Tensor, pairs: tuple[tuple[int, float], ...]) -> Tensor:
    """(B, V) -> (B, V): adds a constant to the logits of some tokens."""
    if not pairs:
        return logits
    bias = logits.new_zeros(logits.size(-1))  # (V,)
    for token, value in pairs:
        bias[token] = value
    return logits + bias


def penalize_repetition(logits: Tensor, rows: Sequence[TokenRow], penalty: float) -> Tensor:
    """(B, V) -> (B, V): above 1, the tokens of each row's text become less likely."""
    if penalty == 1:
        return logits
    occurs = torch.zeros_like(logits, dtype=torch.bool)  # (B, V)
    for occurs_in_row, row in zip(occurs, rows, strict=True):
        occurs_in_row[text_of(row)] = True
    penalized = torch.where(logits < 0, logits * penalty, logits / penalty)  # (B, V)
    return torch.where(occurs, penalized, logits)


def penalize_frequency(
    logits: Tensor, rows: Sequence[TokenRow], frequency: float, presence: float
) -> Tensor:
    """(B, V) -> (B, V): above 0, the new tokens of each row become less likely."""
    if frequency == 0 and presence == 0:
        return logits
    new = [torch.tensor(row.tokens, dtype=torch.long) for row in rows]
    counts = torch.stack([t.bincount(minlength=logits.size(-1)) for t in new]).to(logits)  # (B, V)
    return logits - frequency * counts - presence * (counts > 0)


def ban_repeated_ngrams(logits: Tensor, rows: Sequence[TokenRow], n: int | None) -> Tensor:
    """(B, V) -> (B, V): -inf for tokens that would complete an n-gram of the text again."""
    if n is None:
        return logits
    banned = []
    for text in map(text_of, rows):
        prefix = text[len(text) - n + 1 :]  # the last n - 1 tokens
        starts = range(len(text) - n + 1)
        banned.append([text[i + n - 1] for i in starts if text[i : i + n - 1] == prefix])
    return ban_tokens(logits, banned)


def ban_sequences(
    logits: Tensor, rows: Sequence[TokenRow], sequences: tuple[tuple[int, ...], ...]
) -> Tensor:
    """(B, V) -> (B, V): -inf for tokens that would complete one of the sequences."""
    if not sequences:
        return logits
    longest = max(map(len, sequences))
    banned = []
    for row in rows:
        end = last_tokens(row, longest - 1)
        begun = [s for s in sequences if len(s) == 1 or end[-len(s) + 1 :] == list(s[:-1])]
        banned.append([sequence[-1] for sequence in begun])
    return ban_tokens(logits, banned)


def suppress(logits: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """(B, V) -> (B, V): -inf for some tokens, in every row."""
    if not tokens:
        return logits
    ids = torch.tensor(tokens, device=logits.device)
    return logits.index_fill(-1, ids, -math.inf)


def ban_early_stops(
    logits: Tensor, rows: Sequence[TokenRow], min_new_tokens: int, stop_tokens: tuple[int, ...]
) -> Tensor:
    """(B, V) -> (B, V): -inf for stop tokens in rows of less than min_new_tokens."""
    if min_new_tokens == 0 or not stop_tokens:
        return logits
    banned = [list(stop_tokens) if len(row.tokens) < min_new_tokens else [] for row in rows]
    return ban_tokens(logits, banned)


def ban_tokens(logits: Tensor, banned: list[list[int]]) -> Tensor:
    """(B, V) -> (B, V): -inf for each row's banned tokens."""
    logits = logits.clone()
    for row, tokens in zip(logits, banned, strict=True):
        row[tokens] = -math.inf
    return logits


def text_of(row: TokenRow) -> list[int]:
    """Returns the prompt and the new tokens of a row, as one list."""
    return [*row.prompt, *row.tokens]


def last_tokens(row: TokenRow, n: int) -> list[int]:
    """Returns the last n tokens of a row's text, or all of a shorter one."""
    n_of_prompt = min(max(0, n - len(row.tokens)), len(row.prompt))
    from_prompt = row.prompt[len(row.prompt) - n_of_prompt :]
    return [*from_prompt, *row.tokens[max(0, len(row.tokens) - n) :]]


# Where the token is drawn at random ---------------------------------------------------------


def keep_top_k(logits: Tensor, top_k: int | None) -> Tensor:
    """(B, V) -> (B, V): -inf for all but the top_k most likely tokens."""
    if top_k is None or top_k >= logits.size(-1):
        return logits
    smallest_kept = logits.topk(top_k).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest_kept, -math.inf)


def keep_top_p(logits: Tensor, top_p: float | None) -> Tensor:
    """(B, V) -> (B, V): -inf outside the smallest set of most likely tokens that holds top_p."""
    if top_p is None or top_p == 1:
        return logits
    probabilities = logits.softmax(dim=-1)  # (B, V)
    for n in (min(TOP_P_CANDIDATES, logits.size(-1)), logits.size(-1)):
        ordered, order = probabilities.topk(n)
        before = ordered.cumsum(dim=-1) - ordered  # the sum over all more likely tokens
        if bool((before[:, -1] >= top_p).all()):
            break  # the set ends among these n
    outside = torch.ones_like(logits, dtype=torch.bool)  # (B, V)
    return logits.masked_fill(outside.scatter(-1, order, before >= top_p), -math.inf)


def keep_min_p(logits: Tensor, min_p: float | None) -> Tensor:
    """(B, V) -> (B, V): -inf below min_p times the highest probability."""
    if not min_p:
        return logits
    limit = logits.amax(dim=-1, keepdim=True) + math.log(min_p)  # (B, 1)
    return logits.masked_fill(logits < limit, -math.inf)
