"""tiny-world: stories of a small world, and how many bits each of them is worth.

    bits(story) = sum over its events of -log2 P(event | state)
    floor       = sum of bits / sum of bytes    no model has a lower expected loss (Shannon 1948)

One walk through the world, in two directions: `tell_story` draws the next event and says it,
`read_story` finds the one event that the text says. Both get the same events, state and bits.
Previous: world.py, english.py, russian.py.
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
    """A text, what happens in it, how things stand at its end, and its ideal code length."""

    text: str = ""
    events: list[Event] = field(default_factory=list)
    state: State = field(default_factory=State)
    bits: float = 0.0

    def go_on(self, event: Event, telling: str, bits: float) -> None:
        """Adds one event."""
        self.text += f" {telling}" if self.text else telling
        self.events.append(event)
        self.bits += bits
        happen(self.state, event)


def tell_story(rng: random.Random, language: Language) -> Story:
    """Draws a story."""
    story = Story()
    while story.state.stage != "over":
        event, bits = draw(rng, possible(story.state))
        story.go_on(event, language.tell(story.state, event), bits)
    return story


def draw(rng: random.Random, options: Options) -> tuple[Event, float]:
    """One event and its -log2 P: a kind by weight, then evenly one of its events."""
    total = sum(weight for weight, _ in options)
    ticket = int(rng.random() * total)
    for weight, events in options:
        if ticket < weight:
            return events[int(rng.random() * len(events))], surprise(weight, total, len(events))
        ticket -= weight
    raise AssertionError("the weights add up to their total")


def surprise(weight: int, total: int, n_events: int) -> float:
    """-log2 of weight / total / n_events."""
    return math.log2(total * n_events / weight)


def read_story(text: str, language: Language) -> Story:
    """The story that a text tells.

    Raises ValueError, with the character offset, where the text says what cannot be, where it
    breaks off, and where it goes on after the end.
    """
    story = Story()
    while story.state.stage != "over":
        here = len(story.text) + 1 if story.text else 0
        options = possible(story.state)
        found = fits(f"{text} ", here, options, story.state, language)
        if found is None:
            raise ValueError(misfit(text, here, sum(len(events) for _, events in options)))
        story.go_on(*found)
    if len(text) > len(story.text):
        raise ValueError(
            f"the story is over at character {len(story.text)}, but the text goes on "
            f"with {text[len(story.text) :][:40]!r}; one story at a time"
        )
    return story


def fits(
    text: str, here: int, options: Options, state: State, language: Language
) -> tuple[Event, str, float] | None:
    """The one possible event whose telling stands at `here`, its telling and its bits."""
    total = sum(weight for weight, _ in options)
    for weight, events in options:
        for event in events:
            telling = language.tell(state, event)
            if text.startswith(f"{telling} ", here):
                return event, telling, surprise(weight, total, len(events))
    return None


def misfit(text: str, here: int, n_options: int) -> str:
    """What to say when nothing that can happen is what the text says."""
    if here >= len(text):
        return f"the text stops at character {len(text)}, but the story is not over"
    return (
        f"none of {n_options} possible continuations fits at character {here}, "
        f"where the text says {text[here : here + 40]!r}"
    )


def stories(language: Language, split: str, seed: int = 0) -> Iterator[Story]:
    """An endless stream. Story i depends on (language, split, seed, i) and on nothing else."""
    if split not in SPLITS:
        raise ValueError(f"split ({split!r}) must be one of {', '.join(SPLITS)}")
    index = 0
    while True:
        yield tell_story(random.Random(f"{language.name}/{split}/{seed}/{index}"), language)
        index += 1


def corpus(
    language: Language, n_train: int, n_validation: int, seed: int = 0
) -> tuple[Iterator[Story], list[Story]]:
    """Training stories (lazily) and validation stories, of which none is among the former.

    The rare training story that repeats a validation story is left out and replaced, never the
    other way round: validation stays a fair sample, so that its floor stays exact.
    """
    validation = list(islice(stories(language, "validation", seed), n_validation))
    held_out = {story.text for story in validation}
    fresh = (story for story in stories(language, "train", seed) if story.text not in held_out)
    return islice(fresh, n_train), validation


def floor_bits_per_byte(told: Iterable[Story]) -> float:
    """The fewest bits a byte that any code can spend on such stories, on average."""
    bits, n_bytes = 0.0, 0
    for story in told:
        bits += story.bits
        n_bytes += len(story.text.encode())
    return bits / n_bytes
