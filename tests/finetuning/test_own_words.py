"""The exam in the world's own words: one continuation is possible, and a perfect model is right."""

from itertools import islice

import pytest

from data.tiny_world.stories import LANGUAGES, Story, stories
from data.tiny_world.world import possible
from finetuning.exam import exam_figures
from finetuning.own_words import KINDS, Cue, draw_cues, grade


@pytest.fixture(scope="module", params=list(LANGUAGES))
def cues(request: pytest.FixtureRequest) -> tuple[str, list[Cue]]:
    return request.param, draw_cues(request.param, 12)


def test_there_are_as_many_of_each_kind(cues: tuple[str, list[Cue]]) -> None:
    kinds = [cue.kind for cue in cues[1]]
    assert {kind: kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, 12)


def test_the_law_allows_no_other_continuation(cues: tuple[str, list[Cue]]) -> None:
    language = LANGUAGES[cues[0]]
    for cue in cues[1]:
        n_found = 0
        for telling in continuations(cue.text, language.name):
            assert telling.startswith(cue.answer), cue
            n_found += 1
        assert n_found > 0


def continuations(text: str, name: str) -> list[str]:
    """Returns the rest of the text of every possible event that a beginning fits into."""
    story, language = Story(), LANGUAGES[name]
    while True:
        here = len(story.text) + 1 if story.text else 0
        events = [event for _, options in possible(story.state) for event in options]
        tellings = {event: language.tell(story.state, event) for event in events}
        whole = [event for event in events if text.startswith(f"{tellings[event]} ", here)]
        rest = text[here:]
        open_ones = [t[len(rest) :] for t in tellings.values() if t.startswith(rest)]
        if open_ones or not whole:
            return open_ones
        story.append(whole[0], tellings[whole[0]], 0.0)


def test_the_true_continuation_is_right_and_another_one_wrong(cues: tuple[str, list[Cue]]) -> None:
    graded = [grade(cue, f"{cue.answer} and so on") for cue in cues[1]]
    assert exam_figures(graded)["accuracy"] == 1
    assert not any(grade(cue, "the moon").is_right for cue in cues[1])
    assert 0.5 < (exam_figures(graded)["kind/where-thing/baseline first place"] or 0) <= 1


def test_the_beginnings_are_those_of_validation_stories() -> None:
    drawn = islice(stories(LANGUAGES["tiny-world"], "validation"), 300)
    texts = [story.text for story in drawn]
    for cue in draw_cues("tiny-world", 3):
        assert any(text.startswith(cue.text + cue.answer) for text in texts)
