"""A busy afternoon: a second law over the small world, under which people and the thing move.

    P(event | state) = weight(kind) / sum of weights of possible kinds / number of its events

In a story of tiny-world the thing lies where it was first seen in 96% of the moments, so a model
could name that place without following the story. In an afternoon the opening is the world's own;
then two people walk without a goal among four places, take the thing, give it and put it down.
Previous: ../chat_command.py.  Next: traces.py.
"""

import random
from functools import cache

from data.tiny_world.world import Event, State, act, knows_answer, notice, wordings

N_PLACES = 4
GO, TAKE, GIVE, ASK, PROMISE = 3, 6, 3, 12, 6
EAGER = 30  # to take and give what was promised
PUT, PUT_ALONE = 3, 10  # alone more often: so the other's belief about the thing becomes false
N_PUT_WORDINGS = 3

Choices = list[tuple[int, str, str]]  # (weight, kind of event, who)


def possible_in_afternoon(state: State, previous: Event) -> Choices:
    """Returns the kinds of event that can follow another, and who acts: (weight, kind, person).

    Nobody takes what he has just put down, or puts down what he has just taken or been given.
    """
    choices: Choices = []
    busy = previous.where if previous.kind == "give" else previous.who
    if previous.kind not in ("take", "put", "give"):
        busy = ""
    is_together = state.together()
    spot = state.where[state.thing]
    for person in state.people:
        choices.append((GO, "go", person))
        here = state.where[person]
        if spot == here and person != busy:
            choices.append((EAGER if state.fetches(person) else TAKE, "take", person))
        if spot == person:
            if person != busy:
                choices.append((PUT if is_together else PUT_ALONE, "put", person))
            if is_together:
                choices.append((EAGER if state.fetches(person) else GIVE, "give", person))
        if is_together and spot not in (here, person) and person == state.wisher:
            other = state.other(person)
            if not state.promiser:
                if (person, state.thing) not in state.beliefs and ("ask", person) not in state.done:
                    choices.append((ASK, "ask", person))
                if spot != other:
                    choices.append((PROMISE, "promise", other))
    return choices


def draw_in_afternoon(
    rng: random.Random, state: State, previous: Event, places: tuple[str, ...]
) -> Event:
    """Draws a kind by weight, then one of its events among some places uniformly."""
    choices = possible_in_afternoon(state, previous)
    _, kind, person = rng.choices(choices, [weight for weight, _, _ in choices])[0]
    if kind == "go":
        elsewhere = [place for place in places if place != state.where[person]]
        place = elsewhere[int(rng.random() * len(elsewhere))]
        events = wordings("go", person, "", place)
    elif kind == "put":
        events = put_down(person, state.thing)
    else:
        target = "" if kind == "take" else state.other(person)
        events = wordings(kind, person, state.thing, target)
    return events[int(rng.random() * len(events))]


@cache
def put_down(person: str, thing: str) -> tuple[Event, ...]:
    """Returns the event that a person puts the thing down, in all its wordings."""
    return tuple(Event("put", person, thing, wording=n) for n in range(N_PUT_WORDINGS))


def happen_in_afternoon(state: State, event: Event) -> None:
    """Changes the state by one of the events of `possible_in_afternoon`."""
    if event.kind != "put":
        was_kept = state.kept
        act(state, event)
        state.kept |= was_kept  # the world's own law gives the thing only once
        return
    state.where[event.what] = state.where[event.who]
    state.subject = state.lead = event.who
    state.arrived = ""
    for person in state.people:
        notice(state, person)


def place_named(state: State, event: Event) -> str:
    """Returns the place that the text of an event names last, or "", given the state before it."""
    if event.kind in ("go", "remember"):
        return event.where
    if event.kind == "ask":
        return knows_answer(state, event)
    if event.kind == "tell":
        return state.believed_place(event.who, event.what)
    if event.kind != "evening":
        return ""
    if state.where[state.thing] not in state.people:
        return state.where[state.thing]
    return state.where[state.people[1]]
