"""Beam search: the text that is likeliest as a whole, looked for along several paths at once.

    score(text) = (sum of the log-probabilities of its tokens) / (their number)^length_penalty

At each step every path is continued by every token, and the likeliest continuations live on; one
that ends in a stop token is finished. The search ends when the best path, if it ended at once,
would score below every finished text. This is Hugging Face's way (early_stopping=False), down to
the filters, which work on log-probabilities; the penalty goes back to Wu et al. 2016, eq. 14.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from decoding.batch import Batch
from decoding.filters import edit_logits
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model


@dataclass(frozen=True)
class Beam:
    """A path: what was written, and how likely each token of it was."""

    tokens: tuple[int, ...] = ()  # the last one may be a stop token
    log_probabilities: tuple[float, ...] = ()  # of the model, unfiltered
    total: float = 0.0  # the sum of the filtered ones
    parent: int = 0  # its place among the paths of the step before

    def score(self, config: SamplingConfig) -> float:
        return self.total / len(self.tokens) ** config.length_penalty

    def ended(self, config: SamplingConfig) -> bool:
        return self.tokens[-1] in config.stop_tokens or len(self.tokens) == config.max_new_tokens


@torch.inference_mode()
def beam_search(model: GPT2Model, prompt: list[int], config: SamplingConfig) -> list[Beam]:
    """The best texts that were found, at most config.beams, the best one first."""
    batch = Batch(model, [prompt] * config.beams, config.max_new_tokens)
    logits = batch.read()[:1]  # all rows are equal; the first step continues one of them
    paths, finished = [Beam()], []
    while True:
        found = continuations(logits, paths, prompt, config)
        # what ended without being among the best only made room for paths that go on
        finished += [beam for beam in found[: config.beams] if beam.ended(config)]
        finished = sorted(finished, key=lambda beam: -beam.score(config))[: config.beams]
        paths = [beam for beam in found if not beam.ended(config)][: config.beams]
        if not paths or settled(finished, paths[0], config):
            return finished
        # a row that has left the batch cannot come back, and more paths may fork from few
        rows = paths + paths[:1] * (config.beams - len(paths))
        batch.keep([beam.parent for beam in rows])
        last = [[beam.tokens[-1]] for beam in rows]
        logits = batch.step(torch.tensor(last, device=logits.device))[: len(paths)]


def continuations(
    logits: Tensor, paths: list[Beam], prompt: list[int], config: SamplingConfig
) -> list[Beam]:
    """The likeliest paths of one more token, so many that enough of them go on."""
    likely = logits.log_softmax(dim=-1)  # (B, V)
    written = [list(beam.tokens) for beam in paths]
    edited = edit_logits(likely, [prompt] * len(paths), written, config)  # (B, V)
    totals = edited + likely.new_tensor([[beam.total] for beam in paths])  # (B, V)
    n = min(config.beams * (1 + max(1, len(config.stop_tokens))), totals.numel())
    best = totals.flatten().topk(n)
    found = []
    for total, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        parent, token = divmod(place, totals.size(-1))
        path = paths[parent]
        own = (*path.log_probabilities, float(likely[parent, token]))
        found.append(Beam((*path.tokens, token), own, total, parent))
    return [beam for beam in found if beam.total > -float("inf")]


def settled(finished: list[Beam], best: Beam, config: SamplingConfig) -> bool:
    """Whether no path promises to become better than all the finished texts."""
    if len(finished) < config.beams:
        return False
    return best.score(config) <= finished[-1].score(config)
