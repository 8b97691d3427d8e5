"""Beam search: the text that is most likely as a whole, searched along several paths at once.

    score(text) = (sum of the log-probabilities of its tokens) / (their number)^length_penalty

At each step every path is continued by every token, and the most likely continuations are kept;
one that ends in a stop token is finished. The search ends when the best path, if it ended at once,
would score below every finished text. This is Hugging Face's way (early_stopping=False), down to
the logits processors, which work on log-probabilities; the penalty goes back to Wu et al. 2016,
eq. 14.
Previous: batch.py.  Next: speculative.py.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.batch import RowBatch
from decoding.logits_processors import process_logits, require_finite
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model


@dataclass(frozen=True, kw_only=True)
class Beam:
    """A path: the tokens that continue the prompt, and the log-probability of each."""

    prompt: list[int]
    tokens: tuple[int, ...] = ()  # the last one may be a stop token
    log_probabilities: tuple[float, ...] = ()  # by the model, unprocessed
    total: float = 0.0  # the sum of the processed ones
    parent: int = 0  # its number among the paths of the step before

    def score(self, config: SamplingConfig) -> float:
        """Returns what texts are ranked by: the total, corrected for the length."""
        return self.total / len(self.tokens) ** config.length_penalty

    def has_ended(self, config: SamplingConfig) -> bool:
        """Whether the last token is a stop token or the last one that is allowed."""
        return self.tokens[-1] in config.stop_tokens or len(self.tokens) == config.max_new_tokens


@torch.inference_mode()
def beam_search(model: GPT2Model, prompt: list[int], config: SamplingConfig) -> list[Beam]:
    """Returns the best texts of the search, at most config.beams, the best one first."""
    root = Beam(prompt=prompt)
    batch = RowBatch(model, [root] * config.beams, config.max_new_tokens)
    logits = batch.prefill()[:1]  # all rows are equal; the first step continues one of them
    paths, finished = [root], []
    while True:
        candidates = continuations(logits, paths, config)
        # what ended without being among the best only made room for paths that continue
        finished += [beam for beam in candidates[: config.beams] if beam.has_ended(config)]
        finished = sorted(finished, key=lambda beam: -beam.score(config))[: config.beams]
        paths = [beam for beam in candidates if not beam.has_ended(config)][: config.beams]
        if not paths or is_done(finished, paths[0], config):
            return finished
        # a row that has left the batch cannot come back, and more paths may fork from few
        rows = paths + paths[:1] * (config.beams - len(paths))
        batch.fork(rows, [beam.parent for beam in rows])
        last = [[beam.tokens[-1]] for beam in rows]
        logits = batch.step(torch.tensor(last, device=logits.device))[: len(paths)]


def continuations(logits: Tensor, paths: list[Beam], config: SamplingConfig) -> list[Beam]:
    """Returns the most likely paths of one more token, enough of them that do not end."""
    require_finite(logits)
    log_probabilities = logits.log_softmax(dim=-1)  # (B, V)
    processed = process_logits(log_probabilities, paths, config)  # (B, V)
    totals = processed + processed.new_tensor([[beam.total] for beam in paths])  # (B, V)
    n = min(config.beams * (1 + max(1, len(config.stop_tokens))), totals.numel())
    best = totals.flatten().topk(n)
    beams = []
    for total, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        parent, token = divmod(index, totals.size(-1))
        path, own = paths[parent], float(log_probabilities[parent, token])
        beam = Beam(
            prompt=path.prompt,
            tokens=(*path.tokens, token),
            log_probabilities=(*path.log_probabilities, own),
            total=total,
            parent=parent,
        )
        beams.append(beam)
    return [beam for beam in beams if beam.total > -float("inf")]


def is_done(finished: list[Beam], best: Beam, config: SamplingConfig) -> bool:
    """Whether no path promises to become better than all the finished texts."""
    if len(finished) < config.beams:
        return False
    return best.score(config) <= finished[-1].score(config)
