"""Texts that are streamed, guessed ahead or searched for, against the plain way of writing.

Previous: reading.py.  Next: learning.py.
"""

import codecs
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor
from torch.nn import functional as F

from decoding.beam import beam_search
from decoding.settings import SamplingConfig
from decoding.speculative import Speculation
from diagnostics.verify.check import Finding, NotHere, NotTaken
from diagnostics.verify.checks.reading import alone
from diagnostics.verify.rounding import reason
from diagnostics.verify.subject import Subject
from diagnostics.verify.witness import watch
from generation import complete, generate, stream
from multiheadattention import explicit_attention

N_TOKENS = 24  # that are written
N_PROMPT = 8
N_BEAMS = 3
SAME = "the same computation, handed out in pieces: nothing may differ"
FP32 = torch.float32


def streamed(subject: Subject) -> Finding:
    """Tokens one by one, each before the next is computed, against all of them at the end."""
    model, prompt, config = subject.model, subject.text[:N_PROMPT], drawn()
    whole = generate(model, [prompt], config)[0]
    with watch(model) as seen:
        pieces = stream(model, prompt, config)
        found = [next(pieces)]
        n_before = seen.n_positions
        found += pieces
    if not n_before < seen.n_positions:
        raise NotTaken("the first token came when all were written")
    return Finding(n_unlike(found, whole), 0, f"tokens; {SAME}")


def streamed_text(subject: Subject) -> Finding:
    """The pieces of text that tokens make certain, against the bytes of all tokens at once."""
    tokenizer = subject.tokenizer
    row = complete(subject.model, [subject.text[:N_PROMPT]], drawn(), tokenizer)[0]
    spelled = b"".join(map(tokenizer.token_bytes, row.tokens))
    # the end may be half a character, which is left out
    whole = codecs.getincrementaldecoder("utf-8")("replace").decode(spelled)
    if len(row.pieces) < len(row.tokens):
        raise NotTaken(f"{len(row.tokens)} tokens came in {len(row.pieces)} pieces")
    return Finding(n_unlike("".join(row.pieces), whole), 0, f"characters; {SAME}")


def drawn() -> SamplingConfig:
    return SamplingConfig(max_new_tokens=N_TOKENS, temperature=1.0, top_p=0.95, seed=1)


def n_unlike(found: list[int] | str, wanted: list[int] | str) -> int:
    """Places where two sequences differ; what one lacks counts."""
    return sum(a != b for a, b in zip_longest(found, wanted))


@torch.inference_mode()
def speculative(subject: Subject) -> Finding:
    """Guesses, of which every third is wrong, checked several at a time; temperature 0.

    A token may be another than the plain one where the model finds both equally likely. So the
    difference is how far a token's logit lies below the highest one, by the formula.
    """
    model, prompt = subject.model, subject.text[:N_PROMPT]
    if subject.context_length < N_PROMPT + N_TOKENS:
        raise NotHere(f"a context of {subject.context_length} has no room for guesses")
    config = SamplingConfig(max_new_tokens=N_TOKENS, temperature=0)
    with explicit_attention():
        plain = generate(model, [prompt], config)[0]
        speculation = Speculation(Prompter(plain, model.config.vocab_size), n_guesses=4)
        written = complete(model, [prompt], config, speculation=speculation)[0].tokens
    if not 0 < speculation.n_accepted < speculation.n_guessed:
        raise NotTaken(f"{speculation.n_accepted} of {speculation.n_guessed} guesses were right")
    if len(written) != N_TOKENS:
        return Finding(abs(len(written) - N_TOKENS), 0, "tokens; the text has another length")
    logits = subject.logits_behind(prompt + written, N_TOKENS + 1)[:-1]
    below = logits.amax(dim=-1) - logits[torch.arange(N_TOKENS), written]
    why = f"{reason(FP32, times=2)}: two may tie"
    return Finding(float(below.max()), 2 * subject.fp32_bound, why)


@dataclass(frozen=True)
class Prompter:
    """Drafter: knows the text, and gets every third token wrong."""

    text: list[int]
    vocab_size: int

    def guess(
        self,
        prompt: list[int],
        written: list[int],
        n: int,
        config: SamplingConfig,
        generator: torch.Generator,
    ) -> tuple[list[int], Tensor]:
        places = range(len(written), len(written) + n)
        guesses = [(self.text[i] + (i % 3 == 2)) % self.vocab_size for i in places]
        certain = torch.tensor(guesses, dtype=torch.long, device=generator.device)
        return guesses, F.one_hot(certain, self.vocab_size).float()


@torch.inference_mode()
def beams(subject: Subject) -> Finding:
    """Log-probabilities of texts that were searched for along paths which branch and end."""
    model, prompt = subject.model, subject.text[:N_PROMPT]
    config = SamplingConfig(max_new_tokens=N_TOKENS // 2, temperature=0, beams=N_BEAMS)
    with explicit_attention():
        found = beam_search(model, prompt, config)
    if len({beam.tokens for beam in found}) < N_BEAMS:
        raise NotTaken(f"{len(found)} paths led to fewer texts")
    differences = []
    for beam in found:
        for i, token in enumerate(beam.tokens):
            likely = alone(subject, [*prompt, *beam.tokens[:i]]).log_softmax(dim=-1)
            differences.append(abs(float(likely[token]) - beam.log_probabilities[i]))
    why = f"{reason(FP32, times=2)}: a logit and the sum over all"
    return Finding(max(differences), 2 * subject.fp32_bound, why)
