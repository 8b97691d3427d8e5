"""The truth of a built-in world at every token: what is so, and where the text has stated it.

    truths(state)        the place of each person, where the thing is, who wants it, who believes
                         what about it, whether the wish came true
    find_mentions(...)   the tokens that name a place, whose place it is, and the earlier tokens
                         that have stated the same when it was last stated

A story is told again from its events, so nothing is guessed from the words.
Previous: ideal.py.  Next: regret.py.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from data.tiny_world import english, russian
from data.tiny_world.stories import Story
from data.tiny_world.world import PLACES, Event, Language, State, happen, knows_answer, meets
from visualization.ideal import IdealReader, Told, spaced_words, word_at

THING = "thing"
UNKNOWN = "unknown"
PERSONS = ("person 1", "person 2")
PLACE_OF = tuple(f"place of {person}" for person in PERSONS)
BELIEF_OF = tuple(f"belief of {person}" for person in PERSONS)
FACTS = (*PLACE_OF, "thing", "wisher", "fulfilled", *BELIEF_OF)
CERTAIN = ("ask", "tell", "remember", "evening")  # kinds of event that name a known place

PHRASES = {  # how each world says where somebody is or goes to; the last word is the place
    "tiny-world": (english.AT, {place: f"to the {place}" for place in PLACES}),
    "tiny-world-ru": (russian.AT, russian.TO),
}


def truths(state: State) -> dict[str, str]:
    """Returns what is so, for each of FACTS that the story has told so far.

    A place is a key of the world; persons are "person 1" and "person 2", in the order in which
    they came; the thing is at a place or with a person.
    """
    roles = dict(zip(state.people, PERSONS, strict=False))
    found = {
        f"place of {role}": state.where[person]
        for person, role in roles.items()
        if person in state.where
    }
    if state.thing:
        spot = state.where[state.thing]
        found["thing"] = roles.get(spot, spot)
    if state.stage in ("middle", "end", "over"):
        found["wisher"] = roles[state.wisher]
        found["fulfilled"] = "yes" if state.fulfilled else "no"
        for person, role in roles.items():
            spot = state.beliefs.get((person, state.thing), UNKNOWN)
            found[f"belief of {role}"] = roles.get(spot, spot)
    return found


def false_beliefs(truth: dict[str, str]) -> list[str]:
    """Returns the persons who believe the thing where it is not."""
    return [
        person
        for person, fact in zip(PERSONS, BELIEF_OF, strict=True)
        if truth.get(fact, UNKNOWN) not in (UNKNOWN, truth.get("thing"))
    ]


def replay(told: Sequence[Told]) -> Iterator[tuple[Told, State]]:
    """Yields each event of one or several stories with the state before it.

    The state is one object, which changes by the event as soon as the next one is asked for.
    """
    state = State()
    for event in told:
        state = State() if state.stage == "over" else state
        yield event, state
        happen(state, event.event)


def outcomes(told: Sequence[Told]) -> Iterator[tuple[Told, State]]:
    """Yields each event with the state after it, one object that changes."""
    state = State()
    for event in told:
        state = State() if state.stage == "over" else state
        happen(state, event.event)
        yield event, state


def told_by(story: Story, reader: IdealReader, first: int = 0) -> list[Told]:
    """Returns the events of a story with their tokens, of which the first is at `first`."""
    state, told = State(), list[Told]()
    for event in story.events:
        telling = reader.language.tell(state, event)
        words = spaced_words(telling, follows=bool(told))
        stop = first + sum(len(reader.tokens_of(word)) for word in words)
        told.append(Told(event, first, stop - 1))
        happen(state, event)
        first = stop
    return told


class Mention(NamedTuple):
    """A place that a text names, as the place of somebody or of the thing."""

    kind: str  # of the event that names it; "arrival": where somebody who went sees who is there
    about: tuple[str, ...]  # persons, or THING
    place: str
    first: int  # the first token of the noun
    stop: int  # the token behind its last one
    sources: tuple[int, ...]  # the tokens of the nouns that stated it last; none: nobody did


def named_places(state: State, event: Event) -> list[tuple[tuple[str, ...], str]]:
    """Returns whose places an event names, and the places, in the order of its words.

    The state is the one before the event.
    """
    if event.kind in ("place", "too"):
        return [((event.who,), event.where)]
    if event.kind in ("lies", "knows", "remember"):
        return [((THING,), event.where)]
    if event.kind == "go":
        seen = [other for other in [meets(state, event)] if other]
        seen += [THING] if state.has(event.where) else []
        return [((event.who,), event.where), ((event.who, *seen), event.where)]
    if event.kind == "ask":
        answer = knows_answer(state, event)
        return [((THING,), answer)] if answer else []
    if event.kind == "tell":
        return [((THING,), state.believed_place(event.who, event.what))]
    if event.kind == "evening":
        there = state.people[:1] if state.together() else state.people
        named = [((person,), state.where[person]) for person in there]
        spot = state.where[state.thing]
        return named + ([((THING,), spot)] if spot in PLACES else [])
    return []


@cache
def phrases_of(name: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """Returns a pattern of all phrases that name a place in a world, and the place of each."""
    places = {phrase: place for table in PHRASES[name] for place, phrase in table.items()}
    alternatives = "|".join(map(re.escape, places))
    return re.compile(rf"(?<!\w)({alternatives})(?!\w)", re.IGNORECASE), places


def place_nouns(telling: str, language: Language) -> list[tuple[str, int]]:
    """Returns the places that a telling names, each with the position of its noun in characters."""
    pattern, places = phrases_of(language.name)
    return [
        (places[match[0].lower()], match.start() + match[0].rindex(" ") + 1)
        for match in pattern.finditer(telling)
    ]


def noun_tokens(telling: str, noun: int, first: int, reader: IdealReader) -> range:
    """Returns the positions of the tokens of a noun, which stands at a character of a telling.

    `first` is the position of the telling's first token; the telling is not the story's first.
    """
    for word in spaced_words(telling[:noun].rstrip(), follows=True):
        first += len(reader.tokens_of(word))
    bare = re.match(r"\w+", word_at(telling, noun))
    assert bare, "a noun begins with a letter"
    return range(first, first + len(reader.tokens_of(f" {bare[0]}")))


class Memory:
    """Which tokens have stated a place last, as that of a person, of the thing, or of anybody."""

    def __init__(self) -> None:
        self.stated: dict[tuple[str, str], tuple[int, tuple[int, ...]]] = {}  # with the event

    def sources(self, about: Sequence[str], place: str) -> tuple[int, ...]:
        """Returns the tokens that stated it last, of the first that anything is known of.

        Where nobody stated it of these, the place was stated of somebody else.
        """
        for whose in (*about, ""):
            if (whose, place) in self.stated:
                return self.stated[whose, place][1]
        return ()

    def state(self, about: Sequence[str], place: str, tokens: range, event: int) -> None:
        """Keeps the tokens; what the same event stated before is kept beside them."""
        for whose in (*about, ""):
            last, before = self.stated.get((whose, place), (-1, ()))
            kept = before if last == event else ()
            self.stated[whose, place] = (event, (*kept, *tokens))


def find_mentions(told: Sequence[Told], reader: IdealReader) -> list[Mention]:
    """Returns the places that stories name, in the order of their tokens."""
    memory, found = Memory(), list[Mention]()
    for number, (span, state) in enumerate(replay(told)):
        event = span.event
        if event.kind == "weather":
            memory = Memory()
        telling = reader.language.tell(state, event)
        nouns = place_nouns(telling, reader.language)
        for order, (about, place) in enumerate(named_places(state, event)):
            named, character = nouns[order]
            assert named == place, f"{telling!r} does not name {place}"
            tokens = noun_tokens(telling, character, span.first, reader)
            kind = "arrival" if event.kind == "go" and order == 1 else event.kind
            sources = memory.sources(about, place)
            found.append(Mention(kind, about, place, tokens.start, tokens.stop, sources))
            memory.state(about, place, tokens, number)
    return found


def known_places(mentions: Sequence[Mention]) -> list[Mention]:
    """Returns the mentions whose noun follows from what was stated before, with certainty."""
    return [mention for mention in mentions if mention.kind in CERTAIN]
