"""Filters: what is done to the logits before the next token is chosen, in this order.

For every way of choosing, on the logits l (beam search: on the log-probabilities)
    logit bias           l[t] + bias
    repetition penalty   l / r where l > 0, else l r, for t in the text     Keskar et al. 2019
    frequency, presence  l - frequency count(t) - presence [count(t) > 0],  OpenAI's API reference
                         counted in what was written, without the prompt
    no repeated n-gram   -inf for t that would complete an n-gram of the text
                                                                            Paulus et al. 2017
    banned words         -inf for t that would complete one
    min new tokens       -inf for stop tokens before then
Where the token is drawn
    temperature          l / temperature
    top-k                -inf for all but the k likeliest                   Fan et al. 2018
    top-p                -inf outside the smallest set of likeliest tokens that holds p
                                                                            Holtzman et al. 2020
    min-p                -inf below min_p times the likeliest's probability Nguyen et al. 2024
The order is that of Hugging Face's `_get_logits_processor`, which has neither frequency nor
presence; vLLM puts these two behind the repetition penalty, too. "The text" is prompt and
continuation, of each row its own: no row changes another.
"""

import math

import torch
from torch import Tensor

from cfg_gpt2 import require
from decoding.settings import SamplingConfig

LIKELIEST = 1024  # top-p looks among so many first: sorting a whole vocabulary costs milliseconds

Texts = list[list[int]]


def edit_logits(logits: Tensor, prompts: Texts, written: Texts, config: SamplingConfig) -> Tensor:
    """(B, V) -> (B, V): the filters that hold for every way of choosing.

    Raises ValueError where no token is left.
    """
    texts = [prompt + new for prompt, new in zip(prompts, written, strict=True)]
    logits = add_bias(logits, config.logit_bias)
    logits = penalize_repetition(logits, texts, config.repetition_penalty)
    logits = penalize_written(logits, written, config.frequency_penalty, config.presence_penalty)
    logits = ban_repeated_ngrams(logits, texts, config.no_repeat_ngram)
    logits = ban_words(logits, texts, config.banned)
    logits = ban_early_stops(logits, written, config.min_new_tokens, config.stop_tokens)
    if config.no_repeat_ngram or config.banned or config.logit_bias:
        require(
            bool((logits.amax(dim=-1) > -math.inf).all()),
            "no token is left to choose; loosen --no-repeat-ngram, --ban or --logit-bias",
        )
    return logits


def shape_logits(logits: Tensor, config: SamplingConfig) -> Tensor:
    """(B, V) -> (B, V): the filters for drawing; temperature must be above 0."""
    logits = logits / config.temperature
    logits = keep_top_k(logits, config.top_k)
    logits = keep_top_p(logits, config.top_p)
    return keep_min_p(logits, config.min_p)


# For every way of choosing ------------------------------------------------------------------


def add_bias(logits: Tensor, pairs: tuple[tuple[int, float], ...]) -> Tensor:
    """(B, V) -> (B, V)."""
    if not pairs:
        return logits
    bias = logits.new_zeros(logits.size(-1))  # (V,)
    for token, value in pairs:
        bias[token] = value
    return logits + bias


def penalize_repetition(logits: Tensor, texts: Texts, penalty: float) -> Tensor:
    """(B, V) -> (B, V)."""
    if penalty == 1:
        return logits
    seen = torch.zeros_like(logits, dtype=torch.bool)  # (B, V)
    for row, text in zip(seen, texts, strict=True):
        row[text] = True
    weakened = torch.where(logits < 0, logits * penalty, logits / penalty)  # (B, V)
    return torch.where(seen, weakened, logits)


def penalize_written(logits: Tensor, written: Texts, frequency: float, presence: float) -> Tensor:
    """(B, V) -> (B, V)."""
    if frequency == 0 and presence == 0:
        return logits
    vocab_size = logits.size(-1)
    rows = [torch.tensor(new, dtype=torch.long).bincount(minlength=vocab_size) for new in written]
    counts = torch.stack(rows).to(logits)  # (B, V)
    return logits - frequency * counts - presence * (counts > 0)


def ban_repeated_ngrams(logits: Tensor, texts: Texts, n: int | None) -> Tensor:
    """(B, V) -> (B, V)."""
    if n is None:
        return logits
    banned = []
    for text in texts:
        begun = text[len(text) - n + 1 :]  # the n - 1 tokens that stand last
        starts = range(len(text) - n + 1)
        banned.append([text[i + n - 1] for i in starts if text[i : i + n - 1] == begun])
    return without(logits, banned)


def ban_words(logits: Tensor, texts: Texts, words: tuple[tuple[int, ...], ...]) -> Tensor:
    """(B, V) -> (B, V)."""
    if not words:
        return logits
    banned = []
    for text in texts:
        begun = [w for w in words if len(w) == 1 or text[-len(w) + 1 :] == list(w[:-1])]
        banned.append([word[-1] for word in begun])
    return without(logits, banned)


def ban_early_stops(
    logits: Tensor, written: Texts, min_new_tokens: int, stop_tokens: tuple[int, ...]
) -> Tensor:
    """(B, V) -> (B, V)."""
    if min_new_tokens == 0 or not stop_tokens:
        return logits
    banned = [list(stop_tokens) if len(new) < min_new_tokens else [] for new in written]
    return without(logits, banned)


def without(logits: Tensor, banned: Texts) -> Tensor:
    """(B, V) -> (B, V), -inf for each row's banned tokens."""
    logits = logits.clone()
    for row, tokens in zip(logits, banned, strict=True):
        row[tokens] = -math.inf
    return logits


# Where the token is drawn -------------------------------------------------------------------


def keep_top_k(logits: Tensor, top_k: int | None) -> Tensor:
    """(B, V) -> (B, V), -inf for all but the top_k likeliest."""
    if top_k is None or top_k >= logits.size(-1):
        return logits
    smallest_kept = logits.topk(top_k).values[:, -1:]  # (B, 1)
    return logits.masked_fill(logits < smallest_kept, -math.inf)


def keep_top_p(logits: Tensor, top_p: float | None) -> Tensor:
    """(B, V) -> (B, V), -inf outside the smallest set of likeliest tokens that holds top_p."""
    if top_p is None or top_p == 1:
        return logits
    probabilities = logits.softmax(dim=-1)  # (B, V)
    for n in (min(LIKELIEST, logits.size(-1)), logits.size(-1)):
        ordered, order = probabilities.topk(n)
        before = ordered.cumsum(dim=-1) - ordered  # what the likelier tokens hold together
        if bool((before[:, -1] >= top_p).all()):
            break  # the set ends among these n
    cut = torch.ones_like(logits, dtype=torch.bool)  # (B, V)
    return logits.masked_fill(cut.scatter(-1, order, before >= top_p), -math.inf)


def keep_min_p(logits: Tensor, min_p: float | None) -> Tensor:
    """(B, V) -> (B, V), -inf below min_p times the probability of the likeliest."""
    if not min_p:
        return logits
    limit = logits.amax(dim=-1, keepdim=True) + math.log(min_p)  # (B, 1)
    return logits.masked_fill(logits < limit, -math.inf)
