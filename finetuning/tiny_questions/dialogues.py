"""Dialogues about stories: one for each (language, split, seed, index), and for nothing else.

    user:       {story}\\n{question}
    assistant:  {answer}

Some dialogues go on: more questions about the same story, one with a pronoun, a wrong objection.
Some ask for a story, or for its end; some stories hold a sentence that tries to give the answer.
Previous: russian.py.  Next: exam.py.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from cfg_gpt2 import require
from data import SPLITS
from data.tiny_world.world import PEOPLE
from finetuning.chat_format import Dialogue, Message
from finetuning.tiny_questions.english import ENGLISH
from finetuning.tiny_questions.questions import (
    GROUPS,
    KINDS,
    Answer,
    Question,
    Wordings,
    find_question,
    guesses,
    unsaid_question,
    wrong_answers,
)
from finetuning.tiny_questions.russian import RUSSIAN
from finetuning.tiny_questions.traces import (
    AFTERNOON,
    LAWS,
    TINY_WORLD,
    Trace,
    draw,
    draw_afternoon,
    draw_tiny_world,
)

TASKS = {wordings.name: wordings for wordings in (ENGLISH, RUSSIAN)}
# The shares of the training dialogues, and of the questions that the story does not answer.
SITUATIONS = {
    "single": 0.39,
    "several": 0.20,  # two or three questions in one message, and their answers in one
    "pronoun": 0.25,  # a second question with he, she or it
    "pushback": 0.05,  # the user contradicts a right answer, or doubts a wrong one
    "tell": 0.05,
    "ending": 0.05,
    "attack": 0.01,
}
UNSAID_SHARE = 0.2
SEVERAL = (2, 3)
N_EVENTS = {AFTERNOON: (3, 12), TINY_WORLD: (0, 16)}  # after the opening, if there is room
MANY = 99  # no story has as many events
GROUP_TRIES = 8  # groups of one kind that are looked for before another kind is drawn
# The kinds that take two steps are drawn twice as often, and the one that few stories allow.
TWO_STEPS = ("where-thing", "before", "knows", "thinks", "together", "how-many")
DRAWN_KINDS = (*KINDS, *TWO_STEPS, "where-person", *("said",) * 5)
# The kinds that a pronoun may ask about a person, and about the thing.
OF_PERSONS = ("where-person", "before", "knows", "thinks", "been", "how-many")
OF_THINGS = ("where-thing", "who-has", "where-first", "who-wants", "look")


@dataclass(frozen=True)
class Example:
    """A dialogue that ends with the right answer, and what is needed to judge another one."""

    dialogue: Dialogue
    kind: str  # of the last question
    answers: tuple[str, ...]  # right ones; the first is the one in the dialogue
    distractors: tuple[str, ...]  # wrong answers that a reader who did not follow could give
    law: str  # of the story: one of LAWS
    situation: str  # one of SITUATIONS
    story: str  # the text that the question is about
    question: Question  # the last one
    guesses: dict[str, str] = field(default_factory=dict)  # the answers of trivial rules


@dataclass
class Case:
    """A story up to some event, and the questions about it."""

    trace: Trace
    n_events: int
    questions: list[Question]


def example(language: str, split: str, index: int, seed: int = 0) -> Example:
    """Returns one dialogue of a task, "tiny-questions" or "tiny-questions-ru".

    It depends on the arguments alone. Raises ValueError if there is no such task or split.
    """
    wordings = task(language)
    require(split in SPLITS, f"split ({split!r}) must be one of {', '.join(SPLITS)}")
    rng = random.Random(f"{language}/{split}/{seed}/{index}")
    situation = rng.choices(tuple(SITUATIONS), tuple(SITUATIONS.values()))[0]
    if situation in ("tell", "ending"):
        return told(rng, wordings, situation)
    law = draw(rng, LAWS)
    return DRAWS[situation](rng, wordings, law)


def examples(language: str, split: str, seed: int = 0) -> Iterator[Example]:
    """Yields the dialogues of a task without end, the one with index 0 first."""
    for index in count():
        yield example(language, split, index, seed)


def task(language: str) -> Wordings:
    """Returns the words of a task. Raises ValueError if there is no such task."""
    require(language in TASKS, f"task {language!r} is unknown; choose one of {', '.join(TASKS)}")
    return TASKS[language]


# A story and its questions


def draw_trace(
    rng: random.Random,
    wordings: Wordings,
    law: str,
    max_length: int,
    n_events: int,
    *,
    held_out: bool = False,
) -> Trace:
    """Returns a story of at most some characters and some events after the opening."""
    draw_story = draw_afternoon if law == AFTERNOON else draw_tiny_world
    return draw_story(rng, wordings.tell, max_length, n_events, held_out=held_out)


def draw_case(rng: random.Random, wordings: Wordings, law: str, *, shorter: int = 0) -> Case:
    """Returns a story, by so many characters shorter than the longest, and a question about it."""
    least, most = N_EVENTS[law]
    n_events = least + int(rng.random() * (most - least + 1))
    trace = draw_trace(rng, wordings, law, wordings.max_length - shorter, n_events)
    case = Case(trace, len(trace.events), [])
    case.n_events, question = draw_question(rng, case, range(len(trace.events), -1, -1))
    return Case(trace, case.n_events, [question])


def draw_question(rng: random.Random, case: Case, moments: Sequence[int]) -> tuple[int, Question]:
    """Returns a question that is not in the case yet, and the moment that it is asked at.

    The first moment that has a question of the drawn kind and group is taken.
    """
    while True:
        if rng.random() < UNSAID_SHARE:
            return moments[0], unsaid_question(rng, case.trace, moments[0])
        kind = draw(rng, DRAWN_KINDS)
        for _ in range(GROUP_TRIES):
            found = find_question(rng, case.trace, kind, draw(rng, GROUPS[kind]), moments)
            if found and found[1] not in case.questions:
                return found


# Dialogues


def single(rng: random.Random, wordings: Wordings, law: str) -> Example:
    """Returns a dialogue of one question."""
    case = draw_case(rng, wordings, law)
    asked = ask(rng, wordings, case.questions[0])
    return finish(rng, wordings, law, case, "single", opening_turn(case, asked))


def several(rng: random.Random, wordings: Wordings, law: str) -> Example:
    """Returns a dialogue with some questions in one message; the answers stand in one, too."""
    n_questions = draw(rng, SEVERAL)
    case = draw_case(rng, wordings, law, shorter=wordings.question_length * (n_questions - 1))
    for _ in range(n_questions - 1):
        case.questions.append(draw_question(rng, case, [case.n_events])[1])
    asked = " ".join(ask(rng, wordings, question) for question in case.questions)
    return finish(rng, wordings, law, case, "several", opening_turn(case, asked))


def with_pronoun(rng: random.Random, wordings: Wordings, law: str) -> Example:
    """Returns a dialogue whose second question calls somebody, or the thing, by a pronoun.

    It stands for the only one of its gender in the first question and its answer.
    """
    while True:
        case = draw_case(rng, wordings, law, shorter=wordings.turn_length)
        state, first = case.trace.state, case.questions[0]
        spoken = {first.who, first.what, first.where, first.answer.value, *first.facts}
        known = [what for what in (*state.people, state.thing) if what in spoken]
        pronouns = [wordings.pronoun(what) for what in known]
        clear = [what for what in known if pronouns.count(wordings.pronoun(what)) == 1]
        if clear and first.kind not in ("unsaid", "said", "promised"):  # these may name nobody
            about = draw(rng, clear)
            if second := about_same(rng, case, about):
                break
    answered = Message("assistant", wordings.answer(first, first.answer))
    asked = Message("user", ask(rng, wordings, second, pronoun=about))
    history = (*opening_turn(case, ask(rng, wordings, first)), answered, asked)
    case.questions = [second]
    return finish(rng, wordings, law, case, "pronoun", history)


def about_same(rng: random.Random, case: Case, about: str) -> Question | None:
    """Returns a question about a person or the thing that a pronoun can ask, or None."""
    is_person = about in PEOPLE
    for _ in range(6):
        kind = draw(rng, OF_PERSONS if is_person else OF_THINGS)
        group = draw(rng, GROUPS[kind])
        found = find_question(rng, case.trace, kind, group, [case.n_events])
        if found and found[1] not in case.questions:
            if about == (found[1].who if is_person else found[1].what):
                return found[1]
    return None


def pushed_back(rng: random.Random, wordings: Wordings, law: str) -> Example:
    """Returns a dialogue in which an answer is disputed, and the right one is given again.

    Where the disputed answer is wrong, nothing learns to say it.
    """
    case = draw_case(rng, wordings, law, shorter=wordings.turn_length)
    question = case.questions[0]
    right = wordings.answer(question, question.answer)
    wrong = wordings.answer(question, draw(rng, wrong_of(rng, case)))
    is_right = rng.random() < 2 / 3
    shown, other = (right, wrong) if is_right else (wrong, right)
    objections = wordings.pushback if rng.random() < 2 / 3 else wordings.doubt
    history = (
        *opening_turn(case, ask(rng, wordings, question)),
        Message("assistant", shown, is_learned=is_right),
        Message("user", draw(rng, objections).format(wrong=other)),
    )
    return finish(rng, wordings, law, case, "pushback", history)


def attacked(rng: random.Random, wordings: Wordings, law: str) -> Example:
    """Returns a dialogue whose story holds a typed mark or an order to answer wrongly."""
    case = draw_case(rng, wordings, law, shorter=wordings.turn_length)
    question = case.questions[0]
    wrong = wordings.answer(question, draw(rng, wrong_of(rng, case)))
    texts = case.trace.texts[: case.n_events + 1]
    place = 1 + int(rng.random() * len(texts))
    texts.insert(place, draw(rng, wordings.attacks).format(wrong=wrong))
    asked = ask(rng, wordings, question)
    history = (Message("user", f"{' '.join(texts)}\n{asked}"),)
    return finish(rng, wordings, law, case, "attack", history)


DRAWS: dict[str, Callable[[random.Random, Wordings, str], Example]] = {
    "single": single,
    "several": several,
    "pronoun": with_pronoun,
    "pushback": pushed_back,
    "attack": attacked,
}


def told(rng: random.Random, wordings: Wordings, situation: str) -> Example:
    """Returns a dialogue that asks for a story of tiny-world, or for its end."""
    while True:
        trace = draw_tiny_world(rng, wordings.tell, wordings.max_length, MANY)
        if trace.state.stage == "over":
            break
    n_events = int(rng.random() * len(trace.events))
    who, thing = draw(rng, trace.state.people), trace.state.thing
    question = Question(situation, Answer("story"), who=who, what=thing)
    request = ask(rng, wordings, question)
    text = trace.text(len(trace.events))
    story = trace.text(n_events) if situation == "ending" else ""
    answer = text[len(story) :].strip()
    dialogue = (Message("user", f"{story}\n{request}"), Message("assistant", answer))
    return Example(dialogue, situation, (answer,), (), TINY_WORLD, situation, story, question)


def ask(rng: random.Random, wordings: Wordings, question: Question, *, pronoun: str = "-") -> str:
    """Returns a question in one of the wordings for training."""
    n_wordings = len(wordings.questions[question.form or question.kind]) - 1
    return wordings.ask(question, int(rng.random() * n_wordings), pronoun)


def wrong_of(rng: random.Random, case: Case) -> list[Answer]:
    """Returns wrong answers to the last question of a case."""
    return wrong_answers(rng, case.trace, case.n_events, case.questions[-1])


def opening_turn(case: Case, asked: str) -> Dialogue:
    """Returns the first message: the story and what is asked."""
    return (Message("user", f"{case.trace.text(case.n_events)}\n{asked}"),)


def finish(
    rng: random.Random,
    wordings: Wordings,
    law: str,
    case: Case,
    situation: str,
    history: Dialogue,
) -> Example:
    """Returns the example of a case: what was said so far, and the right answers."""
    last = case.questions[-1]
    right = " ".join(wordings.answer(question, question.answer) for question in case.questions)
    rules = guesses(case.trace, case.n_events, last)
    return Example(
        (*history, Message("assistant", right)),
        last.kind,
        (right,),
        tuple(wordings.answer(last, answer) for answer in wrong_of(rng, case)),
        law,
        situation,
        case.trace.text(case.n_events),
        last,
        {rule: wordings.answer(last, guess) for rule, guess in rules.items()},
    )
