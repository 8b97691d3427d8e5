"""Traces: stories told event by event, with what is true after each of them.

A trace is drawn by one of two laws: tiny-world's own, and the busy afternoon. A question is asked
after some of its events, about the text so far.
Previous: afternoon.py.  Next: questions.py.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from data.tiny_world.stories import draw_event
from data.tiny_world.world import (
    PLACES,
    Event,
    State,
    all_things,
    elsewhere,
    happen,
    newcomers,
    out_of_reach,
    possible,
    wordings,
)
from finetuning.tiny_questions.afternoon import (
    N_PLACES,
    draw_in_afternoon,
    happen_in_afternoon,
    place_named,
)

AFTERNOON, TINY_WORLD = "afternoon", "tiny-world"
LAWS = (AFTERNOON, TINY_WORLD)
# No story of the training set has one of these things together with one of these places.
HELD_OUT_THINGS = ("lamp", "boat", "bell", "rope")
HELD_OUT_PLACES = ("attic", "mill", "hill", "bakery", "hall")

T = TypeVar("T")
Tell = Callable[[State, Event], str]  # the text of an event, given the state before it


class Moment(NamedTuple):
    """What is true after one event of a story, and which places its text has named."""

    where: dict[str, str]
    beliefs: dict[tuple[str, str], str]
    last_place: str
    most_place: str  # named most often, and first among those


@dataclass(slots=True)
class Trace:
    """A story told event by event: moment n stands after the opening and n events."""

    state: State  # at the end
    texts: list[str]
    moments: list[Moment]
    named: list[str]  # the places that the text names, in order, each as often as it is named
    events: list[Event] = field(default_factory=list)
    n_named: list[int] = field(default_factory=list)  # how many of them after each event
    length: int = 0  # characters

    def __post_init__(self) -> None:
        self.n_named.append(len(self.named))

    def append(self, event: Event, text: str, place: str) -> None:
        """Adds an event that has just changed the state."""
        if place:  # "Max went to the hall. In the hall he saw Nina": twice
            self.named += [place] * (2 if event.kind == "go" else 1)
        self.events.append(event)
        self.texts.append(text)
        self.n_named.append(len(self.named))
        self.moments.append(moment_of(self.state, self.named))
        self.length += 1 + len(text)

    def text(self, n_events: int) -> str:
        """Returns the text of the opening and some events."""
        return " ".join(self.texts[: n_events + 1])

    def place(self, what: str, n_events: int) -> str:
        """Returns the place of a person or of the thing, held or not, after some events."""
        where = self.moments[n_events].where
        return where.get(where[what], where[what])

    def believed(self, person: str, what: str, n_events: int) -> str:
        """Returns the place where a person believes another or the thing to be, or ""."""
        where, beliefs, _, _ = self.moments[n_events]
        spot = beliefs.get((person, what), "")
        if spot == person:
            return where[person]
        return beliefs.get((person, spot), "") if spot in self.state.people else spot

    def path(self, person: str, n_events: int) -> list[str]:
        """Returns the places of a person, one after the other."""
        return [self.moments[0].where[person]] + [
            event.where
            for event in self.events[:n_events]
            if event.kind == "go" and event.who == person
        ]

    def places(self, n_events: int) -> list[str]:
        """Returns the places that the text names, in order, each as often as it is named."""
        return self.named[: self.n_named[n_events]]


def moment_of(state: State, named: list[str]) -> Moment:
    """Returns what is true in a state, after a text that has named some places."""
    most = max(dict.fromkeys(named), key=named.count)
    return Moment(dict(state.where), dict(state.beliefs), named[-1], most)


def is_held_out(thing: str, place: str) -> bool:
    """Returns whether a thing and a place never stand in one story of the training set."""
    return thing in HELD_OUT_THINGS and place in HELD_OUT_PLACES


def draw_opening_event(rng: random.Random, state: State) -> Event:
    """Draws the next event of an opening as tiny-world's law does, without listing the others."""
    stage = state.stage
    if stage == "person":
        events = newcomers(tuple(state.people))
    elif stage == "place":
        events = draw_whereabouts(rng, state)
    elif stage == "spot":
        events = draw_spot(rng, state)
    elif stage == "thing":
        events = all_things()
    elif stage == "want":
        wishers = [person for person in state.people if out_of_reach(state, person)]
        events = wordings("want", draw(rng, wishers), state.thing)
    else:
        events = wordings(stage)
    return draw(rng, events)


def draw_whereabouts(rng: random.Random, state: State) -> tuple[Event, ...]:
    """Returns the wordings of a drawn place of the person who was named last."""
    person = state.people[-1]
    if len(state.people) == 1:
        return wordings("place", person, "", draw(rng, PLACES))
    here = state.where[state.people[0]]
    if rng.random() < 2 / 5:
        return wordings("too", person, "", here)
    return wordings("place", person, "", draw(rng, elsewhere(here)))


def draw_spot(rng: random.Random, state: State) -> tuple[Event, ...]:
    """Returns the wordings of a drawn place of the thing, and of who knows it or has it."""
    ticket = rng.random()
    if ticket < 1 / 4:
        return wordings("has", "", "", draw(rng, state.people))
    free = elsewhere(*(state.where[person] for person in state.people))
    knower = draw(rng, state.people) if ticket < 3 / 4 else ""
    return wordings("knows" if knower else "lies", knower, "", draw(rng, free))


def draw(rng: random.Random, options: Sequence[T]) -> T:
    """Returns one of some options, all equally likely."""
    return options[int(rng.random() * len(options))]


def opening(rng: random.Random, tell: Tell, *, held_out: bool) -> Trace:
    """Returns a trace with the opening of a story alone, drawn by the world's law.

    held_out asks for a held-out thing at a held-out place; else no such pair occurs.
    """
    while True:
        state, texts = State(), []
        while state.stage != "middle":
            event = draw_opening_event(rng, state)
            texts.append(tell(state, event))
            happen(state, event)
        spot = state.where[state.thing]
        if held_out:
            accepted = is_held_out(state.thing, state.where.get(spot, spot))
        else:
            accepted = not any(is_held_out(state.thing, place) for place in state.where.values())
        if accepted:
            text, named = " ".join(texts), [state.where[person] for person in state.people]
            if spot not in state.people:
                named.append(spot)
            return Trace(state, [text], [moment_of(state, named)], named, length=len(text))


def draw_afternoon(
    rng: random.Random, tell: Tell, max_length: int, n_events: int, *, held_out: bool = False
) -> Trace:
    """Returns the trace of an afternoon, with at most some characters and some events."""
    trace = opening(rng, tell, held_out=held_out)
    state = trace.state
    places = list(dict.fromkeys(trace.named))
    while len(places) < N_PLACES:
        place = draw(rng, PLACES)
        if place not in places and (held_out or not is_held_out(state.thing, place)):
            places.append(place)
    event, four = Event(""), tuple(places)
    for _ in range(n_events):
        event = draw_in_afternoon(rng, state, event, four)
        text, place = tell(state, event), place_named(state, event)
        if trace.length + 1 + len(text) > max_length:
            break
        happen_in_afternoon(state, event)
        trace.append(event, text, place)
    return trace


def draw_tiny_world(
    rng: random.Random, tell: Tell, max_length: int, n_events: int, *, held_out: bool = False
) -> Trace:
    """Returns the trace of a story of tiny-world, with at most some characters and some events.

    Where nothing is held out, the story stops before it comes to a held-out place.
    """
    trace = opening(rng, tell, held_out=held_out)
    state = trace.state
    while state.stage != "over" and len(trace.events) < n_events:
        event, _ = draw_event(rng, possible(state))
        text, place = tell(state, event), place_named(state, event)
        if trace.length + 1 + len(text) > max_length:
            break
        if not held_out and is_held_out(state.thing, place):
            break
        happen(state, event)
        trace.append(event, text, place)
    return trace
