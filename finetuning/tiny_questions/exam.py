"""The exam: as many questions of each kind, about stories that no training dialogue has.

Answers are balanced by group, so that no rule which does not follow the story is right often.
Four parts ask in known words about known pairs ("seen"), or one thing was not trained: the wording,
the pair of thing and place, the length of the story. Half of the stories are afternoons, half are
tiny-world's; in the latter a thing seldom moves, so they are reported apart.
Previous: dialogues.py.  Next: baselines.py.
"""

import random

from cfg_gpt2 import require
from finetuning.tiny_questions.dialogues import (
    DRAWS,
    N_EVENTS,
    Case,
    Example,
    ask,
    draw_trace,
    finish,
    opening_turn,
    task,
    told,
)
from finetuning.tiny_questions.questions import (
    GROUPS,
    KINDS,
    Wordings,
    find_question,
    unsaid_question,
)
from finetuning.tiny_questions.traces import AFTERNOON, LAWS, TINY_WORLD

SEEN, WORDING, PAIR, LONGER = PARTS = ("seen", "wording", "pair", "longer")
KINDS_OF_EXAM = (*KINDS, "unsaid")
N_EVENTS_LONGER = (10, 12)  # others have seven at most
LONGER_BY = 5 / 3  # how much longer such a story may be, so that it fits into 256 tokens
TRIES = {AFTERNOON: 200, TINY_WORLD: 20}  # stories that are searched for the group of an item


def exam(language: str, n_per_kind: int = 200, part: str = SEEN) -> list[Example]:
    """Returns the items of one part of a task's exam, kind by kind; they never change.

    Raises ValueError if there is no such task or part.
    """
    require(
        part in PARTS, f"part {part!r} of the exam is unknown; choose one of {', '.join(PARTS)}"
    )
    wordings = task(language)
    return [
        exam_item(wordings, part, kind, index)
        for kind in KINDS_OF_EXAM
        for index in range(n_per_kind)
    ]


def exam_item(wordings: Wordings, part: str, kind: str, index: int) -> Example:
    """Returns one item; even ones are about afternoons. The groups of a kind take turns."""
    rng = random.Random(f"{wordings.name}/exam/{part}/{kind}/{index}")
    law = AFTERNOON if part == LONGER else LAWS[index % len(LAWS)]
    groups = GROUPS.get(kind, ("",))
    case = draw_exam_case(rng, wordings, law, part, kind, groups[index // 2 % len(groups)])
    n_wordings = len(wordings.questions[case.questions[0].form or kind])
    if part == WORDING:
        asked = wordings.ask(case.questions[0], n_wordings - 1, "-")
    else:
        asked = ask(rng, wordings, case.questions[0])
    return finish(rng, wordings, law, case, "single", opening_turn(case, asked))


def draw_exam_case(
    rng: random.Random, wordings: Wordings, law: str, part: str, kind: str, group: str
) -> Case:
    """Returns a story and a question of a kind and group, or of any group if that is very rare."""
    least, most = N_EVENTS_LONGER if part == LONGER else N_EVENTS[law]
    max_length = int(wordings.max_length * (LONGER_BY if part == LONGER else 1))
    tries = 0
    while True:
        n_events = least + int(rng.random() * (most - least + 1))
        trace = draw_trace(rng, wordings, law, max_length, n_events, held_out=part == PAIR)
        last = len(trace.events)
        if part == LONGER and last < least:
            continue
        if kind == "unsaid":
            return Case(trace, last, [unsaid_question(rng, trace, last)])
        moments = [last] if part == LONGER else range(last, -1, -1)
        if found := find_question(rng, trace, kind, group, moments):
            return Case(trace, found[0], [found[1]])
        tries += 1
        if tries == TRIES[law]:
            group = ""


def situations(language: str, situation: str, n_items: int = 400) -> list[Example]:
    """Returns dialogues of one situation, as "pronoun" or "pushback"; they never change.

    Raises ValueError if there is no such task or situation.
    """
    known = (*DRAWS, "tell", "ending")
    require(
        situation in known, f"situation {situation!r} is unknown; choose one of {', '.join(known)}"
    )
    wordings, items = task(language), []
    for index in range(n_items):
        rng = random.Random(f"{language}/exam/{situation}/{index}")
        if situation in DRAWS:
            items.append(DRAWS[situation](rng, wordings, LAWS[index % len(LAWS)]))
        else:
            items.append(told(rng, wordings, situation))
    return items
