"""The ideal reader: the exact probability of every next token of a story of a built-in world.

    P*(token | text) = sum of P(event) over the events whose telling agrees with the text so far
                       and goes on with the token / the same sum over those that agree so far

No model can predict better on average, for the stories are drawn from these probabilities. The
tokens are the run's own: GPT-2 cuts a text into words before it merges bytes, and a word never
reaches across a space, so a story has the tokens of its words. Tellings that begin with the same
words are one branch. The bits of a story's tokens add up to `Story.bits`.
Previous: heads.py.  Next: facts.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from data.tiny_world.stories import LANGUAGES
from data.tiny_world.world import Event, Language, State, happen, possible
from tokenizer import Tokenizer
from visualization.inspection import Inspection


class Telling(NamedTuple):
    """An event that can happen, its probability and its text."""

    event: Event
    probability: float
    text: str


@dataclass
class Branch:
    """Tellings that agree up to the end of the word that is being read."""

    tellings: list[Telling]
    probability: float  # the sum of theirs
    stop: int  # the end of the word, in characters of each telling
    tokens: tuple[int, ...]  # of the word, with the space before it
    n_read: int = 0  # tokens of the word that have been read


class Told(NamedTuple):
    """An event of a text, from its first token to its last one."""

    event: Event
    first: int
    last: int


@dataclass
class Reading:
    """What the ideal reader knows at each token of a text.

    after[t] has the probability of each token that can follow position t. It is empty where the
    text is no beginning of a story any more.
    """

    bits: list[float | None] = field(default_factory=list)  # of each token; None: not predicted
    after: list[dict[int, float]] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)  # the events that are told to their end
    impossible_from: int | None = None  # the first token that no story has here

    def total(self) -> float:
        """Returns the sum of the bits, up to the first token that no story has."""
        return sum(bits for bits in self.bits if bits is not None)


class IdealReader:
    """Reads a story token by token and knows what can follow."""

    def __init__(self, tokenizer: Tokenizer, language: Language) -> None:
        self.language, self.end_of_text = language, tokenizer.end_of_text
        self.tokens_of = word_tokens(tokenizer)
        self.start_story()

    def start_story(self) -> None:
        """Begins the next story."""
        self.state = State()
        self.is_first = True  # whether the story's first word is read, which has no space before it
        self.start_event()

    def start_event(self) -> None:
        """Finds the tellings of all events that can happen next."""
        self.branches: list[Branch] = []
        if self.state.stage == "over":
            return
        options = possible(self.state)
        total = sum(weight for weight, _ in options)
        tellings = [
            Telling(event, weight / total / len(events), self.language.tell(self.state, event))
            for weight, events in options
            for event in events
        ]
        self.branches = self.branches_at(tellings, 0)

    def branches_at(self, tellings: Sequence[Telling], start: int) -> list[Branch]:
        """Returns tellings that agree up to a word's first character, a branch for each word."""
        by_word: dict[str, list[Telling]] = {}
        for telling in tellings:
            by_word.setdefault(word_at(telling.text, start), []).append(telling)
        space = "" if self.is_first else " "
        return [
            Branch(same, sum(t.probability for t in same), start + len(word), tokens)
            for word, same in by_word.items()
            for tokens in [self.tokens_of(space + word)]
        ]

    def distribution(self) -> dict[int, float]:
        """Returns the probability of each token that can come next."""
        if not self.branches:
            return {self.end_of_text: 1.0}
        total = sum(branch.probability for branch in self.branches)
        after: dict[int, float] = {}
        for branch in self.branches:
            token = branch.tokens[branch.n_read]
            after[token] = after.get(token, 0.0) + branch.probability / total
        return after if len(after) > 1 else dict.fromkeys(after, 1.0)  # certain, without rounding

    def read(self, token: int) -> Event | None:
        """Reads a token that can come next; returns the event that it completes, if it does.

        After the end of a story the token is the end of the text, and the next story begins.
        """
        if not self.branches:
            self.start_story()
            return None
        alive = [branch for branch in self.branches if branch.tokens[branch.n_read] == token]
        self.branches = [branch for before in alive for branch in self.go_on(before)]
        if self.branches:
            return None
        (done,) = alive  # no telling begins with another one
        event = done.tellings[0].event
        happen(self.state, event)
        self.start_event()
        return event

    def go_on(self, branch: Branch) -> list[Branch]:
        """Returns what a branch becomes by its next token; nothing at the end of its telling."""
        n_read = branch.n_read + 1
        if n_read < len(branch.tokens):
            return [Branch(branch.tellings, branch.probability, branch.stop, branch.tokens, n_read)]
        self.is_first = False
        if branch.stop == len(branch.tellings[0].text):
            return []
        return self.branches_at(branch.tellings, branch.stop + 1)


def reader_of(inspection: Inspection) -> IdealReader | None:
    """Returns the ideal reader of the world that a run was trained on; None: of no such world."""
    if inspection.world is None:
        return None
    return IdealReader(inspection.tokenizer, LANGUAGES[inspection.config.data.path[0]])


def word_at(text: str, start: int) -> str:
    """Returns the characters of a text from a position to the next space."""
    stop = text.find(" ", start)
    return text[start:] if stop < 0 else text[start:stop]


def spaced_words(text: str, *, follows: bool) -> list[str]:
    """Returns the words of a text, each with the space before it; the first has one if the text
    follows another one.
    """
    first, *rest = text.split(" ")
    return [f" {first}" if follows else first, *(f" {word}" for word in rest)]


def word_tokens(tokenizer: Tokenizer) -> Callable[[str], tuple[int, ...]]:
    """Returns a function from a word, with the space before it, to its tokens, which it keeps."""
    known: dict[str, tuple[int, ...]] = {}

    def tokens_of(word: str) -> tuple[int, ...]:
        if word not in known:
            known[word] = tuple(tokenizer.encode(word))
        return known[word]

    return tokens_of


def read_ideally(tokens: Sequence[int], reader: IdealReader) -> Reading:
    """Returns what an ideal reader knows at each token of one or several stories.

    An end-of-text token at the very beginning is not predicted. The last story may be a beginning
    alone. Nothing is predicted from the first token on that no story has in its place.
    """
    reader.start_story()
    reading, expected, first = Reading(), reader.distribution(), 0
    for position, token in enumerate(tokens):
        bits = None
        if position == 0 and token == reader.end_of_text:
            first = 1
        elif token in expected:
            bits = math.log2(1 / expected[token])
            event = reader.read(token)
            if event:
                reading.told.append(Told(event, first, position))
            if event or token == reader.end_of_text:
                first = position + 1
            expected = reader.distribution()
        elif reading.impossible_from is None:
            reading.impossible_from, expected = position, {}
        reading.bits.append(bits)
        reading.after.append(expected)
    return reading


def story_tokens(text: str, tokenizer: Tokenizer) -> list[int]:
    """Returns the tokens of a story between two end-of-text tokens, as the training data has it."""
    return [tokenizer.end_of_text, *tokenizer.encode(text), tokenizer.end_of_text]


def divergence(ideal: Mapping[int, float], log_probabilities: Tensor) -> float:
    """Returns KL(P* || p) in bits: what the model loses, on average, by not being ideal.

    log_probabilities are the model's, (V,), natural logarithms.
    """
    tokens = list(ideal)
    truth = torch.tensor([ideal[token] for token in tokens], dtype=torch.float64)
    believed = log_probabilities[tokens].double()
    return float((truth * (truth.log() - believed)).sum()) / math.log(2)
