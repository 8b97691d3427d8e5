"""The kinds of question, and the one right answer to each.

A person believes what he saw last, or was told, and whoever stays behind sees where the other
goes. A question is asked only where a strict reader of the text can give no other answer. Each
question belongs to a group of its kind; the groups are drawn evenly, so that no rule which does
not follow the story ("the place named first") is right much more often than by chance.
Previous: traces.py.  Next: english.py.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from data.tiny_world.world import LOOKS, PEOPLE, THINGS
from finetuning.tiny_questions.traces import Tell, Trace, draw

N_REASONS = 3  # of each thing
MOST_TIMES = 5  # the largest number of times that is asked for


class Answer(NamedTuple):
    """What is answered: a sort, and the place, person, number or look that it is about."""

    sort: str
    value: str = ""


YES, NO, UNSAID = Answer("yes"), Answer("no"), Answer("unsaid")


@dataclass(frozen=True, slots=True)
class Question:
    """One question, without its words, and the right answer."""

    kind: str
    answer: Answer
    group: str = ""  # the groups of a kind are drawn evenly
    form: str = ""  # which wordings ask it: the kind, or one of its forms
    who: str = ""  # whom it is about
    what: str = ""  # the thing, or the other person, that it is about
    where: str = ""  # a place, or the person who gets the thing
    facts: tuple[str, ...] = ()  # what the answer tells before it decides


@dataclass(frozen=True)
class Wordings:
    """The words of one language. The last wording of each table is for validation only."""

    name: str  # of the task
    world: str  # the corpus in this language
    tell: Tell
    ask: Callable[[Question, int, str], str]  # (question, wording, whom a pronoun stands for)
    answer: Callable[[Question, Answer], str]
    pronoun: Callable[[str], str]  # of a person or a thing
    questions: dict[str, tuple[str, ...]]  # for each form
    pushback: tuple[str, ...]
    doubt: tuple[str, ...]
    attacks: tuple[str, ...]
    max_length: int  # characters of a story, so that it fits into 176 tokens with one question
    turn_length: int  # characters by which a second turn shortens the story
    question_length: int  # characters by which a further question and answer shorten it


Candidates = Callable[[Trace, int], Iterator[Question]]


def place_group(trace: Trace, n: int, answer: str, first: str) -> str:
    """Returns which trivial rules find a place: named first, named last, named most often."""
    rules = {
        "first": first,
        "last": trace.moments[n].last_place,
        "most": trace.moments[n].most_place,
    }
    return " ".join(rule for rule, place in rules.items() if place == answer) or "none"


def where_thing(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Where is the basket?": its place, or the place of the person who holds it."""
    thing = trace.state.thing
    place = trace.place(thing, n)
    group = place_group(trace, n, place, trace.place(thing, 0))
    spot = trace.moments[n].where[thing]
    facts = (spot,) if spot in trace.state.people else ()
    yield Question("where-thing", Answer("place", place), group, what=thing, facts=facts)


def where_person(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Where is Max?"."""
    for person in trace.state.people:
        place = trace.moments[n].where[person]
        group = place_group(trace, n, place, trace.moments[0].where[person])
        yield Question("where-person", Answer("place", place), group, who=person)


def who_has(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Who has the basket?": the wisher, the other one, or nobody."""
    state = trace.state
    spot = trace.moments[n].where[state.thing]
    if spot not in state.people:
        yield Question("who-has", Answer("holder"), "nobody", what=state.thing)
    else:
        group = "wisher" if spot == state.wisher else "other"
        yield Question("who-has", Answer("holder", spot), group, what=state.thing)


def where_first(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Where was the basket at the beginning?"."""
    thing = trace.state.thing
    first = trace.place(thing, 0)
    group = "moved" if first != trace.place(thing, n) else "still there"
    yield Question("where-first", Answer("place", first), group, what=thing)


def before(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Where was Max before the hall?", where Max came to the hall exactly once."""
    for person in trace.state.people:
        path = trace.path(person, n)
        for place, goal in pairwise(path):
            if path.count(goal) == 1:
                group = place_group(trace, n, place, path[0])
                answer = Answer("place", place)
                yield Question("before", answer, group, who=person, where=goal)


def who_wants(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Who wanted the basket?"."""
    state = trace.state
    yield Question("who-wants", Answer("person", state.wisher), what=state.thing)


def why(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Why did Nina want the basket?"."""
    state = trace.state
    answer = Answer("reason", str(state.reason))
    yield Question("why", answer, who=state.wisher, what=state.thing)


def look(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "What is the basket like?"."""
    state = trace.state
    yield Question("look", Answer("look", state.look), what=state.thing)


def knows(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Does Max know where the basket is?".

    It is not asked where he is right by chance: he thinks that it lies where somebody now holds
    it, or that the other one, who put it down there, still holds it.
    """
    thing = trace.state.thing
    for person in trace.state.people:
        believed, place = trace.believed(person, thing, n), trace.place(thing, n)
        moment, facts = trace.moments[n], (place, believed)
        if believed != place:
            group = "false" if believed else "unknown"
            yield Question("knows", NO, group, who=person, what=thing, facts=facts)
        elif moment.beliefs[person, thing] == moment.where[thing]:
            yield Question("knows", YES, "true", who=person, what=thing, facts=facts)


def thinks(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Where does Nina think Max is?", and the same of the thing."""
    state = trace.state
    for person in state.people:
        for what in (state.other(person), state.thing):
            believed = trace.believed(person, what, n)
            answer = Answer("place", believed) if believed else Answer("unknown")
            group = "true" if believed == trace.place(what, n) else "false"
            yield Question(
                "thinks", answer, group if believed else "unknown", who=person, what=what
            )


def been(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Has Max been in the hall?", of the places that the text names.

    It is not asked of the place where he had seen the thing before the story began.
    """
    state = trace.state
    named = dict.fromkeys(trace.places(n))
    for person in state.people:
        path = trace.path(person, n)
        for place in named:
            if place in path:
                group = "now" if place == path[-1] else "earlier"
                yield Question("been", YES, group, who=person, where=place)
            elif (state.spot.kind, state.spot.who, state.spot.where) != ("knows", person, place):
                yield Question("been", NO, "never", who=person, where=place)


def together(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Are Nina and Max in the same place?"."""
    first, second = trace.state.people
    where = trace.moments[n].where
    answer = YES if where[first] == where[second] else NO
    facts = where[first], where[second]
    yield Question("together", answer, answer.sort, who=first, what=second, facts=facts)


def said(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "What did Max answer?", where somebody asked exactly once."""
    asked = [i for i in range(n) if trace.events[i].kind == "ask"]
    if len(asked) == 1:
        event = trace.events[asked[0]]
        place = trace.moments[asked[0] + 1].beliefs.get((event.who, event.what), "")
        answer = Answer("quote", place) if place else Answer("shrug", str(event.wording))
        yield Question("said", answer, answer.sort, who=event.where, what=event.what)


def promised(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "Who promised to bring the basket?" and "Has Max brought it?"."""
    state = trace.state
    promises = [i for i in range(n) if trace.events[i].kind == "promise"]
    if not promises:
        answer = Answer("promiser")
        yield Question("promised", answer, "nobody", "promised-who", what=state.thing)
        return
    promise = trace.events[promises[0]]
    who, wisher = promise.who, promise.where
    answer = Answer("promiser", who)
    yield Question("promised", answer, "somebody", "promised-who", what=state.thing)
    later = range(promises[0] + 1, n + 1)
    kept = any(trace.events[i - 1].kind == "give" and trace.events[i - 1].who == who for i in later)
    brought_near = any(
        trace.moments[i].where[state.thing] == who
        and trace.moments[i].where[who] == trace.moments[i].where[wisher]
        for i in later
    )
    if kept or not brought_near:  # near and not given: it depends on what "brought" means
        answer = YES if kept else NO
        group = "kept" if kept else "not kept"
        yield Question("promised", answer, group, "promised-kept", who, state.thing, wisher)


def how_many(trace: Trace, n: int) -> Iterator[Question]:
    """Yields "How many times did Max go somewhere?"."""
    for person in trace.state.people:
        _, *goals = trace.path(person, n)
        times = len(goals)
        if times <= MOST_TIMES:
            answer = Answer("times", str(times))
            yield Question("how-many", answer, answer.value, who=person, facts=tuple(goals))


KINDS: dict[str, Candidates] = {
    "where-thing": where_thing,
    "where-person": where_person,
    "who-has": who_has,
    "where-first": where_first,
    "before": before,
    "who-wants": who_wants,
    "why": why,
    "look": look,
    "knows": knows,
    "thinks": thinks,
    "been": been,
    "together": together,
    "said": said,
    "promised": promised,
    "how-many": how_many,
}
# Which groups a kind has. One that stands twice is drawn twice as often.
PLACE_GROUPS = (
    *("first", "none") * 3,
    *("last", "last most") * 2,
    *("most", "first most", "first last most"),
)  # each of the three rules is right in 5 of 13
GROUPS: dict[str, tuple[str, ...]] = {
    "where-thing": PLACE_GROUPS,
    "where-person": PLACE_GROUPS,
    "before": PLACE_GROUPS,
    "who-has": ("wisher", "other", "nobody"),
    "where-first": ("moved", "moved", "still there"),
    "who-wants": ("",),  # the world draws these three evenly
    "why": ("",),
    "look": ("",),
    "knows": ("true", "true", "false", "unknown"),
    "thinks": ("true", "false", "unknown"),
    "been": (*("never", "earlier") * 4, "never", "now"),
    "together": ("yes", "no"),
    "said": ("quote", "quote", "shrug"),
    "promised": ("somebody", "nobody", "kept", "not kept"),
    "how-many": tuple(str(times) for times in range(MOST_TIMES + 1)),
}


def find_question(
    rng: random.Random, trace: Trace, kind: str, group: str, moments: Sequence[int]
) -> tuple[int, Question] | None:
    """Returns the first of some moments that has a question of a kind and group, and a question.

    An empty group stands for any group.
    """
    for n_events in moments:
        found = [q for q in KINDS[kind](trace, n_events) if group in ("", q.group)]
        if found:
            return n_events, draw(rng, found)
    return None


def unsaid_question(rng: random.Random, trace: Trace, n_events: int) -> Question:
    """Returns a question about a person or a thing that is not in the story.

    "Why did Max want the basket?" is one too, where it is the other one who wants it.
    """
    state = trace.state
    person = draw(rng, state.people)
    stranger = draw(rng, [name for name in PEOPLE if name not in state.people])
    strange = draw(rng, [name for name in THINGS if name != state.thing])
    place = draw(rng, trace.places(n_events))
    kind, who, what, where = draw_options(
        rng,
        {
            "where-thing": [("", strange, "")],
            "where-person": [(stranger, "", "")],
            "who-has": [("", strange, "")],
            "where-first": [("", strange, "")],
            "before": [(stranger, "", place)],
            "who-wants": [("", strange, "")],
            "why": [(state.other(state.wisher), state.thing, ""), (state.wisher, strange, "")],
            "look": [("", strange, "")],
            "knows": [(stranger, state.thing, ""), (person, strange, "")],
            "thinks": [(stranger, state.thing, ""), (person, strange, ""), (person, stranger, "")],
            "been": [(stranger, "", place)],
            "together": [(person, stranger, "")],
            "said": [(stranger, state.thing, "")],
            "promised-who": [("", strange, "")],
            "how-many": [(stranger, "", "")],
        },
    )
    facts = (*state.people, state.thing)
    return Question("unsaid", UNSAID, "", kind, who, what, where, facts)


def draw_options(
    rng: random.Random, options: dict[str, list[tuple[str, str, str]]]
) -> tuple[str, str, str, str]:
    """Returns one of some forms of question, and one of the ways to fill it."""
    form = draw(rng, tuple(options))
    ways = options[form]
    return form, *draw(rng, ways)


# The answers of rules that do not follow the story, and other wrong answers

PLACE_KINDS = ("where-thing", "where-person", "where-first", "before", "thinks", "said")
PERSON_SORTS = {"who-has": "holder", "who-wants": "person", "promised-who": "promiser"}


def guesses(trace: Trace, n_events: int, question: Question) -> dict[str, Answer]:
    """Returns the answer that each trivial rule gives, for the rules that fit the question."""
    form, state = question.form or question.kind, trace.state
    if form in PERSON_SORTS:
        rule, person = ("wisher", state.wisher)
        if form == "who-wants":
            rule, person = ("first person", state.people[0])
        return {rule: Answer(PERSON_SORTS[form], person)}
    if form not in PLACE_KINDS:
        return {}
    named = trace.places(n_events)
    about = question.what if form == "thinks" else question.who or question.what
    is_known = form not in ("said", "where-first") and about in (*state.people, state.thing)
    sort = "quote" if form == "said" else "place"
    return {
        "first place": Answer(sort, trace.place(about, 0) if is_known else named[0]),
        "last place": Answer(sort, trace.moments[n_events].last_place),
        "most mentioned": Answer(sort, trace.moments[n_events].most_place),
    }


def wrong_answers(
    rng: random.Random, trace: Trace, n_events: int, question: Question
) -> list[Answer]:
    """Returns wrong answers that a reader who did not follow the story could give."""
    form, state = question.form or question.kind, trace.state
    wrong = list(guesses(trace, n_events, question).values())
    if form in PERSON_SORTS:
        sort = PERSON_SORTS[form]
        wrong += [Answer(sort, state.other(state.wisher)), Answer(sort if sort != "person" else "")]
    elif form in PLACE_KINDS:
        sort = "quote" if form == "said" else "place"
        wrong += [Answer(sort, place) for place in trace.places(n_events)]
        if form == "thinks":
            wrong.append(Answer("unknown"))
    elif form == "why":
        wrong += [Answer("reason", str(number)) for number in range(N_REASONS)]
    elif form == "look":
        wrong += [Answer("look", draw(rng, LOOKS)), Answer("look", state.look)]
    elif form == "how-many":
        times = int(question.answer.value or rng.random() * MOST_TIMES)
        wrong += [Answer("times", str(n)) for n in (times + 1, times - 1) if 0 <= n <= MOST_TIMES]
    else:
        wrong += [YES, NO]
    wrong.append(UNSAID)
    return [
        answer for answer in dict.fromkeys(wrong) if answer not in (question.answer, Answer(""))
    ]
