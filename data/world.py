"""A small world without a language: what is so, what can happen next, and how likely it is.

    P(event | state) = weight(kind) / sum of weights of possible kinds / number of its events

`possible(state)` lists the kinds of event that can happen now, each with weight and events;
`happen(state, event)` makes one of them so. There is no other chance anywhere in the world.
A story is two people, a thing, a wish, and what becomes of it.
Read next: tiny_world_en.py (how events are told), tiny_world.py (stories drawn and read back).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

GIRLS = ("anna", "vera", "kate", "nina", "mary", "alice")
BOYS = ("peter", "mike", "nick", "max", "anton", "leo")
PEOPLE = GIRLS + BOYS
PLACES = ("garden", "kitchen", "attic", "barn", "cellar", "porch", "river", "meadow", "forest",
          "market", "mill", "bridge", "library", "yard", "hall", "bedroom", "pond", "hill",
          "bakery", "workshop")
THINGS = ("ball", "book", "drum", "lamp", "cup", "hat", "basket", "doll", "boat", "umbrella",
          "blanket", "bell", "bucket", "mirror", "rope", "pencil")
LOOKS = ("red", "blue", "green", "yellow", "white", "old", "new", "big", "little", "pretty")

# How many wordings each kind of event has. Every language has as many, so that a story
# costs the same number of bits in each.
WORDINGS = {
    "weather": 16, "season": 4, "hour": 3, "place": 16, "too": 3, "lies": 3, "has": 2,
    "knows": 3, "want": 4, "reason": 3, "go": 36, "take": 8, "give": 8, "ask": 3,
    "beg": 3, "tell": 3, "promise": 3, "remember": 3, "greet": 4, "scenery": 36, "hope": 12,
    "joy": 12, "fulfil": 6, "evening": 10, "happy end": 12, "sad end": 10,
}

# No telling of an event is longer than this many words and marks. The middle of a story closes
# before it takes more than ROOM. The opening takes at most 38, the closing 50: no story has
# more than 200.
LENGTH = {
    "want": 7, "reason": 6, "go": 19, "take": 7, "put": 9, "give": 15, "ask": 21, "beg": 13,
    "tell": 12, "promise": 10, "remember": 12, "greet": 13, "scenery": 9, "hope": 6, "joy": 7,
    "fulfil": 10,
}
WAY, SIGHT = 14, 3  # "Soon Ben went to the attic. In the attic he saw Max.", "and the ball"
ERRAND = 68         # a promise, the way there and back, what is taken, given and used
MUSING = 44         # leaves room for the wish to come true
ROOM = 112


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens. `where` is a place, or a person who holds or is spoken to."""
    kind: str
    who: str = ""
    what: str = ""
    where: str = ""
    look: str = ""
    wording: int = 0  # which of the synonyms tells it


@dataclass(slots=True)
class Wish:
    """What a person wants a thing for, and whether it came true."""
    what: str
    reason: int = 0
    fulfilled: bool = False


@dataclass(slots=True)
class State:
    """All that is so. A thing is where a place or a person is named: `where["ball"] == "anna"`."""
    stage: str = "weather"  # which piece of the story comes next
    people: list[str] = field(default_factory=list)
    things: list[str] = field(default_factory=list)
    where: dict[str, str] = field(default_factory=dict)
    looks: dict[str, str] = field(default_factory=dict)
    wishes: dict[str, Wish] = field(default_factory=dict)
    beliefs: dict[tuple[str, str], str] = field(default_factory=dict)  # (person, what) -> where
    promises: dict[str, str] = field(default_factory=dict)  # person -> thing to bring the other
    kept: set[str] = field(default_factory=set)             # who kept a promise
    visited: set[tuple[str, str]] = field(default_factory=set)  # (person, place)
    done: set[str | tuple[str, str]] = field(default_factory=set)  # what is not to happen twice
    mused: list[Event] = field(default_factory=list)  # the thoughts, moods and sounds so far
    musing: bool = False  # whether the last event was one of these
    subject: str = ""   # whom the last sentence was about: "he" or "she" in the next
    lead: str = ""      # who acted last, and so tends to act next
    arrived: str = ""   # who has just come to the other and may greet
    spot: Event = Event("")  # the spot just named, for the thing to come
    length: int = 0     # how much of ROOM is used up

    def other(self, person: str) -> str:
        """The other one of the two people."""
        return self.people[self.people[0] == person]

    def together(self) -> bool:
        """Whether the two people are at one place."""
        first, second = self.people
        return self.where[first] == self.where[second]

    def held(self, person: str) -> list[str]:
        """The things that a person holds."""
        return [thing for thing in self.things if self.where[thing] == person]

    def lying(self, place: str) -> list[str]:
        """The things that lie at a place."""
        return [thing for thing in self.things if self.where[thing] == place]

    def wanted(self, person: str) -> str:
        """The thing a person still wishes to have in hand, or ""."""
        wish = self.wishes.get(person)
        return wish.what if wish and self.where[wish.what] != person else ""

    def fetches(self, person: str) -> str:
        """The thing a person promised to bring and has not brought, or ""."""
        return "" if person in self.kept else self.promises.get(person, "")

    def believed_place(self, person: str, what: str) -> str:
        """The place where a person believes a thing or a person to be, or ""."""
        spot = self.beliefs.get((person, what), "")
        return self.beliefs.get((person, spot), "") if spot in self.people else spot


Options = list[tuple[int, tuple[Event, ...]]]  # kinds of event: weight, and events drawn evenly


@dataclass(frozen=True)
class Language:
    """A way to put events into words."""
    name: str
    tell: Callable[[State, Event], str]  # the state is the one before the event


@cache
def wordings(kind: str, who: str = "", what: str = "", where: str = "") -> tuple[Event, ...]:
    """One event in all its wordings."""
    return tuple(Event(kind, who, what, where, wording=n) for n in range(WORDINGS[kind]))


@cache
def anywhere(kind: str, who: str, places: tuple[str, ...]) -> tuple[Event, ...]:
    """One kind of event at any of some places, in all wordings."""
    return tuple(event for place in places for event in wordings(kind, who, "", place))


# --- The opening: who is where, what there is, who wants what -------------------------------

def one_piece(state: State) -> Options:
    """The weather, the season, the hour: nothing but wording."""
    return [(1, wordings(state.stage))]


@cache
def newcomers(known: tuple[str, ...]) -> tuple[Event, ...]:
    """Everyone who is not in the story yet."""
    return tuple(Event("person", person) for person in PEOPLE if person not in known)


def who_comes(state: State) -> Options:
    """The first or the second person."""
    return [(1, newcomers(tuple(state.people)))]


def where_they_are(state: State) -> Options:
    """The second person may be with the first."""
    person = state.people[-1]
    if len(state.people) == 1:
        return [(1, anywhere("place", person, PLACES))]
    here = state.where[state.people[0]]
    elsewhere = tuple(place for place in PLACES if place != here)
    return [(2, wordings("too", person, "", here)), (3, anywhere("place", person, elsewhere))]


def where_it_is(state: State) -> Options:
    """The thing is in someone's hands, or lies far from both; someone may know of it."""
    holding = tuple(event for person in state.people for event in wordings("has", "", "", person))
    free = far(state)
    knowing = tuple(event for person in state.people for event in anywhere("knows", person, free))
    return [(2, anywhere("lies", "", free)), (4, knowing), (2, holding)]


def far(state: State) -> tuple[str, ...]:
    """The places where nobody is."""
    near = [state.where[person] for person in state.people]
    return tuple(place for place in PLACES if place not in near)


KINDS_OF_THING = tuple(Event("thing", what=thing, look=look) for thing in THINGS for look in LOOKS)


def what_it_is(state: State) -> Options:
    """The thing at the spot just named."""
    return [(1, KINDS_OF_THING)]


def out_of_reach(state: State, person: str, thing: str) -> bool:
    """Whether a person neither holds a thing nor stands next to it."""
    return state.where[thing] not in (person, state.where[person])


def first_wish(state: State) -> Options:
    """Someone wants the thing and cannot reach it. (There always is someone.)"""
    pairs = [(person, thing) for person in state.people for thing in state.things
             if out_of_reach(state, person, thing)]
    return [(1, tuple(event for pair in pairs for event in wordings("want", *pair)))]


# --- The middle: people go after their wishes ------------------------------------------------

def handling(state: State, person: str, other: str) -> Options:
    """Taking, using and giving."""
    options: Options = []
    wish, here = state.wishes.get(person), state.where[person]
    goals = (state.fetches(person), state.wanted(person))
    if wish and not wish.fulfilled and state.where[wish.what] == person:
        options.append((30, wordings("fulfil", person, wish.what)))
    for thing in state.lying(here):
        weight = 30 if thing in goals else 4 if thing == state.wanted(other) else 0
        if weight:
            options.append((weight, wordings("take", person, thing)))
    for thing in state.held(person):
        if thing == state.wanted(other) and state.together():
            options.append((30, wordings("give", person, thing, other)))
    return options


def talking(state: State, person: str, other: str) -> Options:
    """What one can say to the other when they are together."""
    options: Options = []
    goal, theirs = state.wanted(person), state.wanted(other)
    theirs_now = goal and state.where[goal] == other and state.fetches(other) != goal
    if theirs_now and ("beg", person) not in state.done:
        options.append((12, wordings("beg", person, goal, other)))
    if goal and (person, goal) not in state.beliefs and ("ask", person) not in state.done:
        options.append((20, wordings("ask", person, goal, other)))
    known = state.believed_place(person, theirs) if theirs else ""
    if known and known != state.where[person]:
        if (other, theirs) not in state.beliefs:
            options.append((10, wordings("tell", person, theirs, other)))
        if not state.promises and state.length <= ROOM - ERRAND:
            options.append((24, wordings("promise", person, theirs, other)))
    brings = theirs and state.where[theirs] == person
    if state.arrived == person and not brings and "greet" not in state.done:
        options.append((16, wordings("greet", person, "", other)))
    return options


def going(state: State, person: str, other: str) -> Options:
    """Going where the goal is believed to be; with no such belief, searching."""
    here = state.where[person]
    if state.fetches(other) or state.wanted(person) in state.lying(here):
        return []  # one waits for what was promised, or has it at one's feet
    carries = any(thing == state.wanted(other) for thing in state.held(person))
    if carries and state.together():
        return []
    goal = other if carries else state.fetches(person) or state.wanted(person)
    if not goal:
        return strolling(state, person)
    target = state.believed_place(person, goal)
    if target:
        return [(20, wordings("go", person, "", target))] if target != here else []
    return searching(state, person, goal, here)


def searching(state: State, person: str, goal: str, here: str) -> Options:
    """Luck helps: a place with somebody or the goal in it comes before an empty one."""
    fresh = [place for place in PLACES if (person, place) not in state.visited and place != here]
    spots = {state.where[goal]}
    if ("ask", person) not in state.done:
        spots.add(state.where[state.other(person)])
    lucky = tuple(place for place in fresh if place in spots)
    empty = tuple(place for place in fresh if place not in spots)
    options = [(14, anywhere("go", person, lucky))] if lucky else []
    if empty and ("lost", person) not in state.done:
        options.append((4, anywhere("go", person, empty)))
    return options


def strolling(state: State, person: str) -> Options:
    """Who wants nothing may go and see where the other one is, once."""
    if ("stroll", person) in state.done or state.together():
        return []
    fresh = tuple(place for place in PLACES if (person, place) not in state.visited)
    return [(1, anywhere("go", person, fresh))] if fresh else []


def musing(state: State) -> Options:
    """A thought, a mood, a sound: at most one in a row."""
    person, options = state.lead, []
    goal = state.fetches(person) or state.wanted(person)
    target = state.beliefs.get((person, goal), "")
    said = ("remember", person) in state.done
    if target in PLACES and target != state.where[person] and not said:
        options.append((60, wordings("remember", person, goal, target)))
    if not state.musing:
        pining = goal and out_of_reach(state, person, goal)
        options.append((16, unused(state, "hope" if pining else "joy", person)))
        options.append((24, unused(state, "scenery")))
    return options


def unused(state: State, kind: str, person: str = "") -> tuple[Event, ...]:
    """The wordings of a musing that the story has not had yet."""
    had = [event.wording for event in state.mused if (event.kind, event.who) == (kind, person)]
    events = wordings(kind, person)
    return tuple(event for event in events if event.wording not in had) if had else events


def closing(state: State) -> Options:
    """When all is well the story may end; otherwise it does when nothing more fits in."""
    if all(wish.fulfilled for wish in state.wishes.values()):
        return [(40, wordings("evening"))]
    return []


def middle(state: State) -> Options:
    """All that can happen once the story is under way."""
    options = closing(state)
    for person in state.people:
        other, pace = state.other(person), 4 if person == state.lead else 1
        choices = handling(state, person, other) + going(state, person, other)
        if state.together():
            choices += talking(state, person, other)
        options += [(weight * pace, events) for weight, events in choices]
    if state.length <= ROOM - MUSING and state.kept.issuperset(state.promises):
        options += musing(state)
    left = ROOM - state.length
    fitting = [option for option in options if LENGTH.get(option[1][0].kind, 0) <= left]
    return fitting or [(1, wordings("evening"))]


def last_words(state: State) -> Options:
    """Happy when every wish came true."""
    happy = all(wish.fulfilled for wish in state.wishes.values())
    return [(1, wordings("happy end" if happy else "sad end"))]


STAGES: dict[str, Callable[[State], Options]] = {
    "weather": one_piece, "season": one_piece, "hour": one_piece, "person": who_comes,
    "place": where_they_are, "spot": where_it_is, "thing": what_it_is, "want": first_wish,
    "reason": one_piece, "middle": middle, "end": last_words,
}


def possible(state: State) -> Options:
    """The kinds of event that can happen now: (weight, events), none of them empty."""
    return STAGES[state.stage](state)


# --- What an event changes ---------------------------------------------------------------------

def notice(state: State, person: str) -> None:
    """A person sees what is around, and no longer believes here what is not here."""
    here, other = state.where[person], state.other(person)
    for what in (other, *state.things):
        spot = state.where[what]
        believed = state.beliefs.get((person, what))
        if spot in (here, person) or state.where.get(spot) == here:
            state.beliefs[person, what] = spot
        elif believed in (here, person) or (believed == other and state.together()):
            del state.beliefs[person, what]


def sights(state: State, event: Event) -> tuple[str, list[str]]:
    """Who and what someone who goes to a place will see there: the other or "", things."""
    other = state.other(event.who)
    return other if state.where[other] == event.where else "", state.lying(event.where)


def misses(state: State, event: Event) -> str:
    """The thing that someone comes for to a place and will not find there, or ""."""
    goal = state.fetches(event.who) or state.wanted(event.who)
    if not goal or state.beliefs.get((event.who, goal)) != event.where:
        return ""
    other, things = sights(state, event)
    return "" if goal in things or (other and state.where[goal] == other) else goal


def knows_answer(state: State, event: Event) -> str:
    """The place that the one who is asked will name, or ""."""
    return state.believed_place(event.where, event.what)


def cost(state: State, event: Event) -> int:
    """How many words and marks it takes at most to tell an event of the middle."""
    length = LENGTH[event.kind]
    if event.kind != "go":
        return length
    other, things = sights(state, event)
    n_seen = len(things) + (len(state.held(other)) if other else 0) + bool(misses(state, event))
    return WAY + SIGHT * n_seen


def do_go(state: State, event: Event) -> None:
    """Who stays behind knows where the other went."""
    other, things = sights(state, event)
    if state.together():
        state.beliefs[state.other(event.who), event.who] = event.where
    if not other and state.wanted(event.who) not in things:
        state.done.add(("lost", event.who))
    state.done.add(("stroll", event.who))
    state.where[event.who] = event.where
    state.visited.add((event.who, event.where))
    state.arrived = event.who if other else ""


def do_take(state: State, event: Event) -> None:
    """The thing is in hand."""
    state.where[event.what] = event.who


def do_give(state: State, event: Event) -> None:
    """A promise is kept by it. The one who got the thing says thank you."""
    state.where[event.what] = event.where
    if state.promises.get(event.who) == event.what:
        state.kept.add(event.who)
    state.subject = state.lead = event.where


def do_ask(state: State, event: Event) -> None:
    """The answer, if there is one, is believed."""
    state.done.add(("ask", event.who))
    if answer := knows_answer(state, event):
        state.beliefs[event.who, event.what] = answer
        state.lead = event.where
    state.subject = event.where


def do_tell(state: State, event: Event) -> None:
    """What one is told, one believes."""
    state.beliefs[event.where, event.what] = state.believed_place(event.who, event.what)


def do_talk(state: State, event: Event) -> None:
    """Said once."""
    state.done.update((event.kind, (event.kind, event.who)))


def do_promise(state: State, event: Event) -> None:
    """To be kept by giving the thing."""
    state.promises[event.who] = event.what


def do_muse(state: State, event: Event) -> None:
    """No second musing right after it."""
    state.mused.append(event)
    state.musing = True


def do_fulfil(state: State, event: Event) -> None:
    """The wish came true."""
    state.wishes[event.who].fulfilled = True


ACTS: dict[str, Callable[[State, Event], None]] = {
    "go": do_go, "take": do_take, "give": do_give, "ask": do_ask, "tell": do_tell,
    "beg": do_talk, "greet": do_talk, "remember": do_talk, "promise": do_promise,
    "scenery": do_muse, "hope": do_muse, "joy": do_muse, "fulfil": do_fulfil,
}


def act(state: State, event: Event) -> None:
    """Any event of the middle."""
    state.length += cost(state, event)
    state.musing = False
    state.arrived = ""
    state.subject = event.who
    state.lead = event.who or state.lead
    ACTS[event.kind](state, event)
    for person in state.people:
        notice(state, person)


def wish(state: State, event: Event) -> None:
    """A wish, its reason yet to come."""
    state.wishes[event.who] = Wish(event.what)
    state.length += LENGTH["want"]
    state.subject = state.lead = event.who
    state.stage = "reason"


def reason(state: State, event: Event) -> None:
    """The reason of the latest wish. With the first one the story is under way."""
    state.wishes[state.lead].reason = event.wording
    state.length += LENGTH["reason"]
    state.stage = "middle"
    for person in state.people:
        notice(state, person)


def settle(state: State, event: Event) -> None:
    """The second person follows the first, the thing follows both."""
    state.where[event.who] = event.where
    state.subject = event.who
    state.visited.add((event.who, event.where))
    state.stage = "person" if len(state.people) == 1 else "spot"


def place_thing(state: State, event: Event) -> None:
    """The thing is at the spot named before."""
    state.things.append(event.what)
    state.where[event.what] = state.spot.where
    state.looks[event.what] = event.look
    if state.spot.kind == "knows":
        state.beliefs[state.spot.who, event.what] = state.spot.where
    state.stage = "want"


def name_spot(state: State, event: Event) -> None:
    """Where the thing is, and who knows."""
    state.spot = event
    state.subject = {"knows": event.who, "has": event.where}.get(event.kind, "")
    state.stage = "thing"


def happen(state: State, event: Event) -> None:
    """Makes an event of `possible(state)` so."""
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
