"""The exam in the world's own words: what a model knows before anybody teaches it to answer.

    ... In the hall she saw Max. "Where is the ball?" asked Nina. "|By the river,"

A story of the world is cut (|) where the law leaves one continuation, and the model goes on. So the
knowledge that the questions ask for is measured without a question, and without a chat template.

    where-thing   what somebody answers who knows where the thing is
    not-known     what somebody answers who does not know it
    where-person  where somebody is in the evening
    who-has       whether the first person has the thing in the evening
    why           what the wisher can do with the thing at last

The stories are those of the validation split, with the skew of the world: the thing is nearly
always where it was first. So the first two are asked in busy afternoons too, apart: there the thing
moves more often, and by an event that is in no story of the world, putting it down.
Previous: exam.py.  Next: exam_task.py.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from data.tiny_world import english, russian
from data.tiny_world.stories import LANGUAGES, stories
from data.tiny_world.world import Event, State, happen, knows_answer
from finetuning.chat_format import Message
from finetuning.exam import Answer, ExamItem, Graded, Report, greedy_answers
from finetuning.tiny_questions.dialogues import TASKS
from finetuning.tiny_questions.traces import draw_afternoon
from gpt2 import GPT2Model
from tokenizer import Tokenizer

KINDS = ("where-thing", "not-known", "where-person", "who-has", "why")
N_ITEMS = 200  # of each kind
N_EVENTS = 12  # of an afternoon
AFTERNOONS = "busy afternoons"  # the set of their beginnings
N_STORIES = 20_000  # are looked through at most
WORDS = {"tiny-world": english, "tiny-world-ru": russian}  # the tables of each language
QUOTES = {"tiny-world": ('. "', ',"'), "tiny-world-ru": (". «", "»")}  # around what is answered
WITH = {"tiny-world": (" with",), "tiny-world-ru": (" с ", " со ")}


class Cut(NamedTuple):
    """A place in the text of an event at which only one continuation is possible."""

    kind: str
    position: int
    answer: str  # how the text goes on
    rules: dict[str, bool]  # simple rules: whether they name it


@dataclass(frozen=True, kw_only=True)
class Cue:
    """The beginning of a story, and how it goes on for certain."""

    text: str
    answer: str
    kind: str
    rules: dict[str, bool]
    group: str = ""  # the law of the story, where that is not the world's own


def draw_cues(task: str, n_items: int = N_ITEMS) -> list[Cue]:
    """Returns n_items beginnings of stories of each kind, and as many of busy afternoons."""
    return [*draw_world_cues(TASKS[task].world, n_items), *draw_afternoon_cues(task, n_items)]


def draw_world_cues(language: str, n_items: int) -> list[Cue]:
    """Returns n_items beginnings of each kind from stories told by the world's own law."""
    found: dict[str, list[Cue]] = {kind: [] for kind in KINDS}
    for story, _ in zip(stories(LANGUAGES[language], "validation"), range(N_STORIES), strict=False):
        for cue in cues_of(language, story.events):
            if len(found[cue.kind]) < n_items:
                found[cue.kind].append(cue)
        if all(len(part) == n_items for part in found.values()):
            break
    return list(chain.from_iterable(found.values()))


def cues_of(language: str, events: Sequence[Event]) -> Iterator[Cue]:
    """Yields a cue for each place of a story at which only one continuation is possible."""
    state, text, tell = State(), "", LANGUAGES[language].tell
    first: dict[str, str] = {}  # the places in the beginning
    for event in events:
        if event.kind == "want":
            first = {name: state.where.get(spot, spot) for name, spot in state.where.items()}
        telling = tell(state, event)
        for kind, position, answer, rules in cuts(language, state, event, telling, first):
            yield Cue(text=f"{text} {telling[:position]}", answer=answer, kind=kind, rules=rules)
        text += f" {telling}" if text else telling
        happen(state, event)


def draw_afternoon_cues(task: str, n_items: int) -> list[Cue]:
    """Returns n_items beginnings of busy afternoons that end with a question for the thing."""
    wordings, found = TASKS[task], []
    rng = random.Random(f"{task}/own words")
    while len(found) < n_items:
        trace = draw_afternoon(
            rng, wordings.tell, n_events=N_EVENTS, max_length=wordings.max_length
        )
        for n, (event, telling) in enumerate(zip(trace.events, trace.texts[1:], strict=True)):
            if event.kind == "ask":
                places = trace.believed(event.where, event.what, n), trace.place(event.what, 0)
                kind, position, answer, rules = answer_cut(wordings.world, telling, *places)
                text = f"{trace.text(n)} {telling[:position]}"
                found.append(
                    Cue(text=text, answer=answer, kind=kind, rules=rules, group=AFTERNOONS)
                )
    return found[:n_items]


def answer_cut(language: str, telling: str, place: str, first: str) -> Cut:
    """Returns where the answer begins to a question for the thing.

    place is where the one who is asked believes it, or "", and first where it was in the beginning.
    """
    opening, closing = QUOTES[language]
    start = telling.index(opening) + len(opening)
    answer = telling[start : telling.index(closing, start) + len(closing)]
    if not place:
        return Cut("not-known", start, answer, {})
    return Cut("where-thing", start, answer, {"first place": place == first})


def cuts(
    language: str, state: State, event: Event, telling: str, first: dict[str, str]
) -> Iterator[Cut]:
    """Yields the places of an event's text at which only one continuation is possible.

    first has the places in the beginning of the story.
    """
    if event.kind == "ask":
        yield answer_cut(language, telling, knows_answer(state, event), first[event.what])
    if event.kind == "fulfil":
        reason = WORDS[language].REASONS[event.what][state.reason].removeprefix("to ")
        yield Cut("why", telling.index(f" {reason}"), f" {reason}", {})
    if event.kind == "evening":
        yield from evening_cuts(language, state, telling, first)


def evening_cuts(language: str, state: State, telling: str, first: dict[str, str]) -> Iterator[Cut]:
    """Yields the cuts of the evening: where each person is, and whether the first has the thing."""
    at, person = WORDS[language].AT, state.people[0]
    place = f" {at[state.where[person]]}"
    start = telling.index(place)
    yield Cut("where-person", start, place, {"first place": state.where[person] == first[person]})
    start += len(place)
    held = next((word for word in WITH[language] if telling.startswith(word, start)), ",")
    rule = {"wisher": state.has(person) == (person == state.wisher)}
    yield Cut("who-has", start, held, rule)
    other = state.people[1]
    if not state.together():
        place = f" {at[state.where[other]]}"
        rule = {"first place": state.where[other] == first[other]}
        yield Cut("where-person", telling.index(place, start), place, rule)


def take_exam_in_own_words(
    model: GPT2Model,
    tokenizer: Tokenizer,
    cues: Sequence[Cue],
    report: Report = lambda done: None,
    batch_size: int | None = None,
) -> list[Graded]:
    """Lets the model continue each beginning; it is right where it continues with the answer.

    Raises UnseenCharacter where the tokenizer lacks a character of the stories.
    """
    end = tokenizer.end_of_text
    prompts = [[end, *ids] for ids in tokenizer.encode_batch([cue.text for cue in cues])]
    lengths = [len(ids) for ids in tokenizer.encode_batch([cue.answer for cue in cues])]
    answers = greedy_answers(model, tokenizer, prompts, lengths, report, batch_size)
    return [grade(cue, one.text) for cue, one in zip(cues, answers, strict=True) if one]


def grade(cue: Cue, text: str) -> Graded:
    """Returns a cue as an item of the exam, with the part of the continuation that answers it."""
    item = ExamItem(
        prompt=(Message("user", cue.text),),
        answers=(cue.answer,),
        kind=cue.kind,
        group=cue.group,
        baselines=cue.rules,
    )
    is_right = text.startswith(cue.answer)
    return Graded(item, Answer(cue.answer if is_right else text, ended=is_right), is_right)
