"""Regret: what a model pays above the ideal reader, by kind of event.

    regret(kind) = sum over the tokens of its events of -log2 p(token) - (-log2 P*(token))
    sum of all regrets = (validation bits per byte - floor) x bytes of the stories

A word is certain where the ideal reader gives it the probability 1; the model does not know it
where it gives the word less than one half.
Previous: facts.py.  Next: ideal_view.py.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.stream import document_boundaries
from data.tiny_world.stories import Story
from data.windows import Window
from gpt2 import GPT2Model
from load_data import collate, split_at_documents
from tokenizer import Tokenizer
from visualization.facts import told_by
from visualization.ideal import IdealReader, Told, read_ideally, spaced_words
from visualization.inspection import Report

END = "end of text"  # the kind of the token behind a story
BATCH_TOKENS = 4096  # enough to use all cores


@dataclass(frozen=True)
class Layout:
    """Stories in one stream, as the validation text has them."""

    stream: np.ndarray  # end of text, story, end of text, story, ..., end of text
    told: list[list[Told]]  # the events of each story, at their tokens in the stream
    kinds: list[str]  # of the event of each token; the first token's is END
    words: list[tuple[int, int]]  # the first token of each word and the one behind it
    n_events: dict[str, int]  # of each kind
    n_bytes: int


@dataclass
class KindRegret:
    """What the tokens of one kind of event cost, in bits, and which certain words are unknown."""

    kind: str
    n: int = 0  # events
    ideal_bits: float = 0.0
    model_bits: float = 0.0
    certain: int = 0  # words
    unknown: int = 0  # certain words that the model does not know

    @property
    def regret(self) -> float:
        """The bits that the model pays above the ideal reader."""
        return self.model_bits - self.ideal_bits


def lay_out(stories: Sequence[Story], tokenizer: Tokenizer, reader: IdealReader) -> Layout:
    """Returns stories as one stream, with the kind of event of each token."""
    end = tokenizer.end_of_text
    stream, kinds, words, told = [end], [END], list[tuple[int, int]](), list[list[Told]]()
    for story in stories:
        start = len(stream)
        told.append(told_by(story, reader, start))
        stream += [*tokenizer.encode(story.text), end]
        for span in told[-1]:
            kinds += [span.event.kind] * (span.last + 1 - span.first)
        kinds.append(END)
        words += [*word_spans(story.text, start, reader), (len(stream) - 1, len(stream))]
    n_events = Counter(span.event.kind for spans in told for span in spans)
    n_bytes = sum(len(story.text.encode()) for story in stories)
    return Layout(np.array(stream), told, kinds, words, {**n_events, END: len(stories)}, n_bytes)


def ideal_bits(layout: Layout, reader: IdealReader) -> np.ndarray:
    """Returns what the ideal reader pays for each token of a stream, in bits; 0 for the first."""
    reading = read_ideally(layout.stream.tolist(), reader)
    assert reading.impossible_from is None, "the stories are of the reader's world"
    return np.array([bits or 0.0 for bits in reading.bits])


def word_spans(text: str, start: int, reader: IdealReader) -> list[tuple[int, int]]:
    """Returns the first token of each word of a text, counted from `start`, and the one behind."""
    spans: list[tuple[int, int]] = []
    for word in spaced_words(text, follows=False):
        stop = start + len(reader.tokens_of(word))
        spans.append((start, stop))
        start = stop
    return spans


@dataclass(frozen=True)
class StoryWindows:
    """A batch of windows of a stream, each as its first token's position and its last target's."""

    spans: list[tuple[int, int]]
    tokens: Tensor  # (B, T)
    targets: Tensor  # (B, T); IGNORE_INDEX behind a shorter window

    def spread(self, values: Tensor, into: np.ndarray) -> None:
        """Writes the values of the targets, (B, T), to their places in the stream."""
        rows = values.double().numpy()
        for row, (start, stop) in enumerate(self.spans):
            into[start + 1 : stop + 1] = rows[row, : stop - start]


def windows_of(stream: np.ndarray, context_length: int, end_of_text: int) -> list[StoryWindows]:
    """Returns the windows in which training evaluates a stream, in batches of similar length."""
    boundaries = document_boundaries(stream, end_of_text)
    spans = list(split_at_documents(boundaries, 0, len(stream), context_length))
    spans.sort(key=lambda span: span[1] - span[0])
    size, batches = max(1, BATCH_TOKENS // context_length), list[StoryWindows]()
    for first in range(0, len(spans), size):
        some = spans[first : first + size]
        windows = [Window(stream, start, stop - start) for start, stop in some]
        batches.append(StoryWindows(some, *collate(windows, context_length, end_of_text)))
    return batches


def target_bits(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, T, V), (B, T) -> (B, T): what each target costs, in bits."""
    nats = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return nats.unflatten(0, targets.shape) / math.log(2)


@torch.no_grad()
def token_bits(
    model: GPT2Model, layout: Layout, end_of_text: int, report: Report = lambda *_: None
) -> np.ndarray:
    """Returns what a model pays for each token of a stream, in bits; 0 for the first one."""
    bits, done = np.zeros(len(layout.stream)), 0
    for batch in windows_of(layout.stream, model.config.context_length, end_of_text):
        batch.spread(target_bits(model(batch.tokens), batch.targets), bits)
        done += sum(stop - start for start, stop in batch.spans)
        report(done, len(layout.stream) - 1)
    return bits


def regret_by_kind(layout: Layout, ideal: np.ndarray, paid: np.ndarray) -> list[KindRegret]:
    """Returns a row for each kind of event, the largest regret first.

    Args:
        layout: the stories.
        ideal: the bits of each token for the ideal reader.
        paid: the bits of each token for the model.
    """
    rows = {kind: KindRegret(kind, n) for kind, n in layout.n_events.items()}
    for kind, least, bits in zip(layout.kinds, ideal, paid, strict=True):
        rows[kind].ideal_bits += float(least)
        rows[kind].model_bits += float(bits)
    for first, stop in layout.words:
        if not ideal[first:stop].any():
            row = rows[layout.kinds[first]]
            row.certain += 1
            row.unknown += bool(paid[first:stop].sum() > 1)
    return sorted(rows.values(), key=lambda row: -row.regret)
