"""tiny-world: stories of a small world, and how many bits each of them is worth.

    bits(story) = sum over its events of -log2 P(event | state)
    floor       = sum of bits / sum of bytes    no model has a lower expected loss (Shannon 1948)

The same simulation runs in two directions: `tell_story` draws the next event and appends its text,
`read_story` finds the one event whose text follows. Both give the same events, state and bits.
Previous: russian.py.  Next: ../text_files.py.
"""

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from data import SPLITS
from data.tiny_world.english import ENGLISH
from data.tiny_world.russian import RUSSIAN
from data.tiny_world.world import Event, Language, Options, State, happen, possible

LANGUAGES = {language.name: language for language in (ENGLISH, RUSSIAN)}


@dataclass
class Story:
    """A text, its events, the state at its end, and its information content in bits."""

    text: str = ""
    events: list[Event] = field(default_factory=list)
    state: State = field(default_factory=State)
    bits: float = 0.0

    def append(self, event: Event, telling: str, bits: float) -> None:
        """Adds one event with its text and its bits."""
        self.text += f" {telling}" if self.text else telling
        self.events.append(event)
        self.bits += bits
        happen(self.state, event)


def tell_story(rng: random.Random, language: Language) -> Story:
    """Returns a story whose events are drawn by their probabilities."""
    story = Story()
    while story.state.stage != "over":
        event, bits = draw_event(rng, possible(story.state))
        story.append(event, language.tell(story.state, event), bits)
    return story


def draw_event(rng: random.Random, options: Options) -> tuple[Event, float]:
    """Draws a kind by weight, then one of its events uniformly; returns it and its -log2 P."""
    total = sum(weight for weight, _ in options)
    ticket = int(rng.random() * total)
    for weight, events in options:
        if ticket < weight:
            return events[int(rng.random() * len(events))], information(weight, total, len(events))
        ticket -= weight
    raise AssertionError("the weights add up to their total")


def information(weight: int, total: int, n_events: int) -> float:
    """Returns the bits of one event of a kind: -log2 of weight / total / n_events."""
    return math.log2(total * n_events / weight)


def read_story(text: str, language: Language) -> Story:
    """Returns the story of a text, with its events and their bits.

    Raises ValueError, with the character offset, where the text does not fit any possible event,
    where it stops too early, and where it goes on after the end.
    """
    story = Story()
    while story.state.stage != "over":
        here = len(story.text) + 1 if story.text else 0
        options = possible(story.state)
        match = matching_event(f"{text} ", here, options, story.state, language)
        if match is None:
            n_options = sum(len(events) for _, events in options)
            raise ValueError(mismatch_message(text, here, n_options))
        story.append(*match)
    if len(text) > len(story.text):
        raise ValueError(
            f"the story is over at character {len(story.text)}, but the text goes on "
            f"with {text[len(story.text) :][:40]!r}; one story at a time"
        )
    return story


def matching_event(
    text: str, here: int, options: Options, state: State, language: Language
) -> tuple[Event, str, float] | None:
    """Returns the possible event whose text stands at offset `here`, with its text and its bits.

    The text ends with a space. No two possible events match; the result is None if none does.
    """
    total = sum(weight for weight, _ in options)
    for weight, events in options:
        for event in events:
            telling = language.tell(state, event)
            if text.startswith(f"{telling} ", here):
                return event, telling, information(weight, total, len(events))
    return None


def mismatch_message(text: str, here: int, n_options: int) -> str:
    """Returns the error for a text that fits none of the possible events at offset `here`."""
    if here >= len(text):
        return f"the text stops at character {len(text)}, but the story is not over"
    return (
        f"none of {n_options} possible continuations fits at character {here}, "
        f"where the text says {text[here : here + 40]!r}"
    )


def stories(language: Language, split: str, seed: int = 0) -> Iterator[Story]:
    """Yields stories without end; story i depends on (language, split, seed, i) alone."""
    if split not in SPLITS:
        raise ValueError(f"split ({split!r}) must be one of {', '.join(SPLITS)}")
    index = 0
    while True:
        yield tell_story(random.Random(f"{language.name}/{split}/{seed}/{index}"), language)
        index += 1


def corpus(
    language: Language, n_train: int, n_validation: int, seed: int = 0
) -> tuple[Iterator[Story], list[Story]]:
    """Returns training stories, drawn one by one, and validation stories, which differ from those.

    The rare training story that repeats a validation story is left out and replaced, never the
    other way round: validation remains a fair sample, so that its entropy is exact.
    """
    validation = list(islice(stories(language, "validation", seed), n_validation))
    held_out = {story.text for story in validation}
    fresh = (story for story in stories(language, "train", seed) if story.text not in held_out)
    return islice(fresh, n_train), validation


def floor_bits_per_byte(sample: Iterable[Story]) -> float:
    """Returns the entropy floor: the bits per byte of stories under their true probabilities."""
    bits, n_bytes = 0.0, 0
    for story in sample:
        bits += story.bits
        n_bytes += len(story.text.encode())
    return bits / n_bytes
