"""The exam in the world's own words: one continuation is possible, and a perfect model is right."""

from itertools import chain, islice

import pytest

from data.tiny_world.stories import LANGUAGES, stories
from data.tiny_world.world import (
    Event,
    State,
    anywhere,
    elsewhere,
    happen,
    possible,
    wordings,
)
from finetuning.exam import exam_figures
from finetuning.own_words import AFTERNOONS, KINDS, Cue, draw_cues, grade
from finetuning.tiny_questions.afternoon import (
    happen_in_afternoon,
    possible_in_afternoon,
    put_down,
)
from finetuning.tiny_questions.dialogues import TASKS

N = 8  # beginnings of each kind


@pytest.fixture(scope="module", params=list(TASKS))
def cues(request: pytest.FixtureRequest) -> tuple[str, list[Cue]]:
    return request.param, draw_cues(request.param, N)


def test_there_are_as_many_of_each_kind_and_of_afternoons(cues: tuple[str, list[Cue]]) -> None:
    kinds = [cue.kind for cue in cues[1] if not cue.group]
    assert {kind: kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, N)
    assert [cue.group for cue in cues[1]].count(AFTERNOONS) == N


def test_the_law_allows_no_other_continuation(cues: tuple[str, list[Cue]]) -> None:
    for cue in cues[1]:
        found = continuations(cue, cues[0])
        assert found and all(telling.startswith(cue.answer) for telling in found), cue


def continuations(cue: Cue, task: str) -> list[str]:
    """Returns the rest of the text of every event that can stand where a beginning stops."""
    state, here, tell, previous = State(), 0, TASKS[task].tell, Event("")
    while True:
        is_afternoon = cue.group == AFTERNOONS and state.stage == "middle"
        if is_afternoon:
            events = afternoon_events(state, previous)
        else:
            events = list(chain.from_iterable(events for _, events in possible(state)))
        tellings = [tell(state, event) for event in events]
        rest = cue.text[here:]
        if found := [telling[len(rest) :] for telling in tellings if telling.startswith(rest)]:
            return found
        [told] = [n for n, telling in enumerate(tellings) if rest.startswith(f"{telling} ")]
        previous = events[told]
        (happen_in_afternoon if is_afternoon else happen)(state, previous)
        here += len(tellings[told]) + 1


def afternoon_events(state: State, previous: Event) -> list[Event]:
    """Returns the events that can follow another in a busy afternoon, among all places."""
    events: list[Event] = []
    for _, kind, person in possible_in_afternoon(state, previous):
        if kind == "go":
            events += anywhere("go", person, elsewhere(state.where[person]))
        elif kind == "put":
            events += put_down(person, state.thing)
        else:
            target = "" if kind == "take" else state.other(person)
            events += wordings(kind, person, state.thing, target)
    return events


def test_the_true_continuation_is_right_and_another_one_wrong(cues: tuple[str, list[Cue]]) -> None:
    figures = exam_figures([grade(cue, f"{cue.answer} and so on") for cue in cues[1]])
    assert figures["accuracy"] == 1 and figures[f"set/{AFTERNOONS}/accuracy"] == 1
    assert not any(grade(cue, "the moon").is_right for cue in cues[1])
    assert 0.5 < (figures["kind/where-thing/baseline first place"] or 0) <= 1


def test_the_beginnings_are_those_of_validation_stories() -> None:
    drawn = islice(stories(LANGUAGES["tiny-world"], "validation"), 300)
    texts = [story.text for story in drawn]
    for cue in draw_cues("tiny-questions", 3):
        is_found = any(text.startswith(cue.text + cue.answer) for text in texts)
        assert is_found == (not cue.group)
