"""The simulation behind the stories: a state, the events that can follow, and their probability.

    P(event | state) = weight(kind) / sum of weights of possible kinds / number of its events

`possible(state)` lists the kinds of event that can happen next, each with its weight and its
events; `happen(state, event)` changes the state by one of them. Nothing else is random.
A story is about two people, a thing, a wish, and what becomes of it.
Previous: README.md.  Next: english.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

GIRLS = ("anna", "vera", "kate", "nina", "mary", "alice")
BOYS = ("peter", "mike", "nick", "max", "anton", "leo")
PEOPLE = GIRLS + BOYS
PLACES = (
    "garden",
    "kitchen",
    "attic",
    "barn",
    "cellar",
    "porch",
    "river",
    "meadow",
    "forest",
    "market",
    "mill",
    "bridge",
    "library",
    "yard",
    "hall",
    "bedroom",
    "pond",
    "hill",
    "bakery",
    "workshop",
)
THINGS = (
    "ball",
    "book",
    "drum",
    "lamp",
    "cup",
    "hat",
    "basket",
    "doll",
    "boat",
    "umbrella",
    "blanket",
    "bell",
    "bucket",
    "mirror",
    "rope",
    "pencil",
)
LOOKS = ("red", "blue", "green", "yellow", "white", "old", "new", "big", "little", "pretty")

# How many wordings each kind of event has. Every language has as many, so that a story
# costs the same number of bits in each.
WORDINGS = {
    "weather": 16,
    "season": 4,
    "hour": 3,
    "place": 16,
    "too": 3,
    "lies": 3,
    "has": 2,
    "knows": 3,
    "want": 4,
    "reason": 3,
    "go": 36,
    "take": 8,
    "give": 8,
    "ask": 3,
    "beg": 3,
    "tell": 3,
    "promise": 3,
    "remember": 3,
    "greet": 4,
    "scenery": 36,
    "hope": 12,
    "joy": 12,
    "fulfil": 6,
    "evening": 10,
    "happy end": 12,
    "sad end": 10,
}

# The text of an event has at most this many words and punctuation marks. From the wish on, a story
# ends before it needs more than ROOM. The opening needs at most 29, the evening 34, the last words
# 7: no story has more than 182.
LENGTH = {
    "want": 7,
    "reason": 6,
    "go": 19,
    "take": 7,
    "give": 15,
    "ask": 21,
    "beg": 13,  # go: at most 17
    "tell": 12,
    "promise": 10,
    "remember": 12,
    "greet": 13,
    "scenery": 9,
    "hope": 6,
    "joy": 7,
    "fulfil": 10,
}
WAY, SIGHT = 14, 3  # "Soon Leo went to the hall. In the hall he saw Max", "and the cup"
ERRAND = 73  # a promise, the way there and back, taking, giving and using the thing
MUSING = 44  # a sound, the way, taking and using the thing
ROOM = 112


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a story.

    `where` is a place, or the person who holds the thing or is spoken to.
    """

    kind: str
    who: str = ""
    what: str = ""
    where: str = ""
    look: str = ""
    wording: int = 0  # which of the synonyms tells it


@dataclass(slots=True)
class State:
    """Everything that is true at one moment of a story.

    The thing is at a place or with a person: `where["ball"] == "anna"`.
    """

    stage: str = "weather"  # which part of the story comes next
    people: list[str] = field(default_factory=list)
    thing: str = ""
    look: str = ""
    where: dict[str, str] = field(default_factory=dict)
    wisher: str = ""  # who wants the thing
    reason: int = 0  # the number of one of the reasons to want this thing
    fulfilled: bool = False  # whether the wish came true
    beliefs: dict[tuple[str, str], str] = field(default_factory=dict)  # (person, what) -> where
    promiser: str = ""  # who promised to bring the other the thing
    kept: bool = False  # whether the promise was kept
    visited: set[tuple[str, str]] = field(default_factory=set)  # (person, place)
    done: set[str | tuple[str, str]] = field(default_factory=set)  # events that happen only once
    mused: list[Event] = field(default_factory=list)  # the thoughts, moods and sounds so far
    musing: bool = False  # whether the last event was one of these
    subject: str = ""  # whom the last sentence was about: "he" or "she" in the next
    lead: str = ""  # who acted last, and so tends to act next
    arrived: str = ""  # who has just come to the other and may greet
    spot: Event = Event("")  # where the thing to come is, as just told
    length: int = 0  # words and marks of ROOM that are used up

    def other(self, person: str) -> str:
        """Returns the other one of the two people."""
        return self.people[self.people[0] == person]

    def together(self) -> bool:
        """Returns whether the two people are at the same place."""
        first, second = self.people
        return self.where[first] == self.where[second]

    def has(self, spot: str) -> bool:
        """Returns whether the thing is at this place, or in the hands of this person."""
        return self.where[self.thing] == spot

    def wants(self, person: str) -> bool:
        """Returns whether a person wants the thing and does not hold it."""
        return person == self.wisher and not self.has(person)

    def fetches(self, person: str) -> bool:
        """Returns whether a person promised to bring the thing and has not brought it yet."""
        return person == self.promiser and not self.kept

    def believed_place(self, person: str, what: str) -> str:
        """Returns the place where a person believes a thing or a person to be, or ""."""
        spot = self.beliefs.get((person, what), "")
        return self.beliefs.get((person, spot), "") if spot in self.people else spot


# the kinds of event that are possible: the weight of each, and its events, equally likely
Options = list[tuple[int, tuple[Event, ...]]]


@dataclass(frozen=True)
class Language:
    """The name of a world, and the function that puts its events into words."""

    name: str
    tell: Callable[[State, Event], str]  # the state is the one before the event


@cache
def wordings(kind: str, who: str = "", what: str = "", where: str = "") -> tuple[Event, ...]:
    """Returns one event in all its wordings."""
    return tuple(Event(kind, who, what, where, wording=n) for n in range(WORDINGS[kind]))


@cache
def anywhere(kind: str, who: str, places: tuple[str, ...]) -> tuple[Event, ...]:
    """Returns events of one kind at each of some places, in all their wordings."""
    return tuple(event for place in places for event in wordings(kind, who, "", place))


@cache
def elsewhere(*near: str) -> tuple[str, ...]:
    """Returns all places but these."""
    return tuple(place for place in PLACES if place not in near)


# The opening: the people and their places, the thing, the wish


def one_piece(state: State) -> Options:
    """Returns the options for the weather, the season, the hour, or the reason: wordings alone."""
    return [(1, wordings(state.stage))]


@cache
def newcomers(known: tuple[str, ...]) -> tuple[Event, ...]:
    """Returns an event for each person who is not in the story yet."""
    return tuple(Event("person", person) for person in PEOPLE if person not in known)


def who_comes(state: State) -> Options:
    """Returns the options for the first or the second person."""
    return [(1, newcomers(tuple(state.people)))]


def where_they_are(state: State) -> Options:
    """Returns the options for a person's place; the second person may be with the first."""
    person = state.people[-1]
    if len(state.people) == 1:
        return [(1, anywhere("place", person, PLACES))]
    here = state.where[state.people[0]]
    return [(2, wordings("too", person, "", here)), (3, anywhere("place", person, elsewhere(here)))]


def where_it_is(state: State) -> Options:
    """Returns the options for the place of the thing.

    Somebody holds it, or it lies where nobody is; in that case one of the two may know the place.
    """
    holding = tuple(event for person in state.people for event in wordings("has", "", "", person))
    free = elsewhere(*(state.where[person] for person in state.people))
    knowing = tuple(event for person in state.people for event in anywhere("knows", person, free))
    return [(2, anywhere("lies", "", free)), (4, knowing), (2, holding)]


@cache
def all_things() -> tuple[Event, ...]:
    """Returns an event for every thing in every look."""
    return tuple(Event("thing", what=thing, look=look) for thing in THINGS for look in LOOKS)


def what_it_is(state: State) -> Options:
    """Returns the options for the thing at the place that was just named."""
    return [(1, all_things())]


def out_of_reach(state: State, person: str) -> bool:
    """Returns whether a person neither holds the thing nor is at its place."""
    return not state.has(person) and not state.has(state.where[person])


def who_wants_it(state: State) -> Options:
    """Returns the options for the wish; it is of somebody who cannot reach the thing.

    There always is such a person.
    """
    return [
        (
            1,
            tuple(
                event
                for person in state.people
                if out_of_reach(state, person)
                for event in wordings("want", person, state.thing)
            ),
        )
    ]


# The middle: people try to get the thing


def handling(state: State, person: str, other: str) -> Options:
    """Returns the options to take, use or give the thing."""
    if state.has(state.where[person]):
        eager = state.wants(person) or state.fetches(person)
        return [(30 if eager else 4, wordings("take", person, state.thing))]
    if not state.has(person):
        return []
    if person == state.wisher:
        return [] if state.fulfilled else [(30, wordings("fulfil", person, state.thing))]
    return [(30, wordings("give", person, state.thing, other))] if state.together() else []


def talking(state: State, person: str, other: str) -> Options:
    """Returns the options to speak to the other person, for two people at one place."""
    options: Options = []
    thing = state.thing
    if state.wants(person):
        if state.has(other) and not state.fetches(other) and ("beg", person) not in state.done:
            options.append((12, wordings("beg", person, thing, other)))
        if (person, thing) not in state.beliefs and ("ask", person) not in state.done:
            options.append((20, wordings("ask", person, thing, other)))
    known = state.believed_place(person, thing) if state.wants(other) else ""
    if known and known != state.where[person]:
        if (other, thing) not in state.beliefs:
            options.append((10, wordings("tell", person, thing, other)))
        if not state.promiser and state.length <= ROOM - ERRAND:
            options.append((24, wordings("promise", person, thing, other)))
    brings = state.wants(other) and state.has(person)
    if state.arrived == person and not brings and "greet" not in state.done:
        options.append((16, wordings("greet", person, "", other)))
    return options


def going(state: State, person: str, other: str) -> Options:
    """Returns the options to go where the goal is believed to be, or to search for it."""
    here = state.where[person]
    if state.fetches(other) or (state.wants(person) and state.has(here)):
        return []  # the person waits for what was promised, or is at the place of the thing
    carries = state.wants(other) and state.has(person)
    if carries and state.together():
        return []
    if not (carries or state.fetches(person) or state.wants(person)):
        return strolling(state, person)
    goal = other if carries else state.thing
    target = state.believed_place(person, goal)
    if target:
        return [(20, wordings("go", person, "", target))] if target != here else []
    return searching(state, person, goal)


def searching(state: State, person: str, goal: str) -> Options:
    """Returns the options to search: places with the goal or the other person, and empty ones.

    The former have the larger weight, so that searches end soon.
    """
    fresh = [place for place in PLACES if (person, place) not in state.visited]
    spots = {state.where[goal]}
    if ("ask", person) not in state.done:
        spots.add(state.where[state.other(person)])
    lucky = tuple(place for place in fresh if place in spots)
    empty = tuple(place for place in fresh if place not in spots)
    options = [(14, anywhere("go", person, lucky))] if lucky else []
    if ("lost", person) not in state.done:
        options.append((4, anywhere("go", person, empty)))
    return options


def strolling(state: State, person: str) -> Options:
    """Returns the options of a person without a goal, who may go somewhere once."""
    if ("go", person) in state.done or state.together():
        return []
    return [(1, anywhere("go", person, elsewhere(state.where[person])))]


def musing(state: State) -> Options:
    """Returns the options for a thought, a mood or a sound.

    No mood or sound follows another, and each person has one thought.
    """
    person, options = state.lead, []
    seeks = state.fetches(person) or state.wants(person)
    target = state.beliefs.get((person, state.thing), "")
    away = target in PLACES and target != state.where[person]
    if seeks and away and ("remember", person) not in state.done:
        options.append((60, wordings("remember", person, state.thing, target)))
    if not state.musing:
        pining = seeks and out_of_reach(state, person)
        options.append((16, unused(state, "hope" if pining else "joy", person)))
        options.append((24, unused(state, "scenery")))
    return options


def unused(state: State, kind: str, person: str = "") -> tuple[Event, ...]:
    """Returns the wordings of a mood or sound that the story has not had yet."""
    had = [event.wording for event in state.mused if (event.kind, event.who) == (kind, person)]
    events = wordings(kind, person)
    return tuple(event for event in events if event.wording not in had) if had else events


def closing(state: State) -> Options:
    """Returns the option to end the story, once the wish came true.

    A story whose wish does not come true ends when nothing else fits into ROOM.
    """
    return [(40, wordings("evening"))] if state.fulfilled else []


def middle(state: State) -> Options:
    """Returns the options in the middle of a story."""
    options = closing(state)
    for person in state.people:
        other, pace = state.other(person), 4 if person == state.lead else 1
        choices = handling(state, person, other) + going(state, person, other)
        if state.together():
            choices += talking(state, person, other)
        options += [(weight * pace, events) for weight, events in choices]
    if state.length <= ROOM - MUSING and not any(map(state.fetches, state.people)):
        options += musing(state)
    left = ROOM - state.length
    fitting = [option for option in options if LENGTH.get(option[1][0].kind, 0) <= left]
    return fitting or [(1, wordings("evening"))]


def last_words(state: State) -> Options:
    """Returns the options for the last sentence: a happy one if the wish came true."""
    return [(1, wordings("happy end" if state.fulfilled else "sad end"))]


STAGES: dict[str, Callable[[State], Options]] = {
    "weather": one_piece,
    "season": one_piece,
    "hour": one_piece,
    "person": who_comes,
    "place": where_they_are,
    "spot": where_it_is,
    "thing": what_it_is,
    "want": who_wants_it,
    "reason": one_piece,
    "middle": middle,
    "end": last_words,
}


def possible(state: State) -> Options:
    """Returns the kinds of event that can happen next: (weight, events), none of them empty."""
    return STAGES[state.stage](state)


# What an event changes


def notice(state: State, person: str) -> None:
    """Updates the beliefs of a person from what is at the same place, and from what is not."""
    here, other = state.where[person], state.other(person)
    for what in (other, state.thing):
        spot = state.where[what]
        believed = state.beliefs.get((person, what))
        if spot in (here, person) or state.where.get(spot) == here:
            state.beliefs[person, what] = spot
        elif believed in (here, person) or (believed == other and state.together()):
            del state.beliefs[person, what]


def meets(state: State, event: Event) -> str:
    """Returns the other person if an event of going leads to his or her place, else ""."""
    other = state.other(event.who)
    return other if state.where[other] == event.where else ""


def misses(state: State, event: Event) -> bool:
    """Returns whether someone goes to a place for the thing and finds neither it nor anybody.

    The other person is elsewhere then: nobody else can have taken the thing, and holds it still.
    """
    seeks = state.fetches(event.who) or state.wants(event.who)
    comes_for_it = seeks and state.beliefs.get((event.who, state.thing)) == event.where
    return comes_for_it and not state.has(event.where) and not meets(state, event)


def knows_answer(state: State, event: Event) -> str:
    """Returns the place that the person who is asked will name, or ""."""
    return state.believed_place(event.where, event.what)


def cost(state: State, event: Event) -> int:
    """Returns how many words and marks the text of an event of the middle has at most."""
    if event.kind != "go":
        return LENGTH[event.kind]
    in_sight = state.has(event.where) or state.has(meets(state, event))
    return WAY + SIGHT * (in_sight or misses(state, event))


def do_go(state: State, event: Event) -> None:
    """Moves a person. One who stays behind knows where; one who came in vain stops searching."""
    other = meets(state, event)
    if state.together():
        state.beliefs[state.other(event.who), event.who] = event.where
    if not other and not (state.wants(event.who) and state.has(event.where)):
        state.done.add(("lost", event.who))
    state.done.add(("go", event.who))
    state.where[event.who] = event.where
    state.visited.add((event.who, event.where))
    state.arrived = event.who if other else ""


def do_take(state: State, event: Event) -> None:
    """Puts the thing into the hands of a person."""
    state.where[event.what] = event.who


def do_give(state: State, event: Event) -> None:
    """Hands the thing over, which may keep a promise; the receiver says thank you."""
    state.where[event.what] = event.where
    state.kept = event.who == state.promiser
    state.subject = state.lead = event.where


def do_ask(state: State, event: Event) -> None:
    """Asks for the thing; the person who asks believes the answer, if there is one."""
    state.done.add(("ask", event.who))
    if answer := knows_answer(state, event):
        state.beliefs[event.who, event.what] = answer
        state.lead = event.where
    state.subject = event.where


def do_tell(state: State, event: Event) -> None:
    """Tells the place of the thing; the person who is told believes it."""
    state.beliefs[event.where, event.what] = state.believed_place(event.who, event.what)


def do_talk(state: State, event: Event) -> None:
    """Records something that is said only once in a story."""
    state.done.update((event.kind, (event.kind, event.who)))


def do_promise(state: State, event: Event) -> None:
    """Records a promise, which giving the thing will keep."""
    state.promiser = event.who


def do_muse(state: State, event: Event) -> None:
    """Records a mood or a sound, which no second one may follow."""
    state.mused.append(event)
    state.musing = True


def do_fulfil(state: State, event: Event) -> None:
    """Makes the wish come true."""
    state.fulfilled = True


ACTS: dict[str, Callable[[State, Event], None]] = {
    "go": do_go,
    "take": do_take,
    "give": do_give,
    "ask": do_ask,
    "tell": do_tell,
    "beg": do_talk,
    "greet": do_talk,
    "remember": do_talk,
    "promise": do_promise,
    "scenery": do_muse,
    "hope": do_muse,
    "joy": do_muse,
    "fulfil": do_fulfil,
}


def act(state: State, event: Event) -> None:
    """Changes the state by an event of the middle of a story."""
    state.length += cost(state, event)
    state.musing = False
    state.arrived = ""
    state.subject = event.who
    state.lead = event.who or state.lead
    ACTS[event.kind](state, event)
    for person in state.people:
        notice(state, person)


def wish(state: State, event: Event) -> None:
    """Records whose wish it is; the reason follows."""
    state.wisher = event.who
    state.length += LENGTH["want"]
    state.subject = state.lead = event.who
    state.stage = "reason"


def reason(state: State, event: Event) -> None:
    """Records the reason of the wish, with which the middle of the story begins."""
    state.reason = event.wording
    state.length += LENGTH["reason"]
    state.stage = "middle"
    for person in state.people:
        notice(state, person)


def settle(state: State, event: Event) -> None:
    """Puts a person at a place; the next event is the second person, or the place of the thing."""
    state.where[event.who] = event.where
    state.subject = event.who
    state.visited.add((event.who, event.where))
    state.stage = "person" if len(state.people) == 1 else "spot"


def place_thing(state: State, event: Event) -> None:
    """Puts the thing at the place that was named before."""
    state.thing = event.what
    state.look = event.look
    state.where[event.what] = state.spot.where
    if state.spot.kind == "knows":
        state.beliefs[state.spot.who, event.what] = state.spot.where
    state.stage = "want"


def name_spot(state: State, event: Event) -> None:
    """Records the place of the thing, and who knows it."""
    state.spot = event
    state.subject = {"knows": event.who, "has": event.where}.get(event.kind, "")
    state.stage = "thing"


def happen(state: State, event: Event) -> None:
    """Changes the state by one of the events of `possible(state)`."""
    kind = event.kind
    if kind in ACTS:
        act(state, event)
    elif kind in ("place", "too"):
        settle(state, event)
    elif kind == "thing":
        place_thing(state, event)
    elif kind == "want":
        wish(state, event)
    elif kind == "reason":
        reason(state, event)
    elif kind == "person":
        state.people.append(event.who)
        state.stage = "place"
    elif kind in ("lies", "knows", "has"):
        name_spot(state, event)
    else:
        state.stage = NEXT.get(kind, "over")


NEXT = {"weather": "season", "season": "hour", "hour": "person", "evening": "end"}
