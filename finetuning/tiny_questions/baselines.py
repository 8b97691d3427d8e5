"""Baselines: how often rules are right that do not follow the story.

They are printed beside every result, so that 40% is not mistaken for ability.
Previous: exam.py.  Next: ../settings.py.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence

from finetuning.tiny_questions.dialogues import Example
from finetuning.tiny_questions.questions import UNSAID

RULES = ("first place", "last place", "most mentioned", "first person", "wisher")


FOLD = 7  # neighbours that are counted together; the groups take turns with other periods


def baselines(items: Sequence[Example]) -> dict[str, list[bool]]:
    """Returns for each rule whether it answers each of the items rightly.

    A rule that does not fit a question ("first place" for "Who has it?") is wrong there.
    """
    right = {
        "majority of the kind": majority(items, lambda item: item.kind),
        "question only": majority(items, lambda item: (form_of(item), item.question.what)),
    }
    for rule in RULES:
        right[rule] = [item.guesses.get(rule) in item.answers for item in items]
    right["never said"] = [item.question.answer == UNSAID for item in items]
    return right


def form_of(item: Example) -> str:
    """Returns what the words of a question ask for, whether or not the story says it."""
    return item.question.form or item.question.kind


def majority(items: Sequence[Example], key: Callable[[Example], Hashable]) -> list[bool]:
    """Returns whether the most frequent answer to other items with the same key is right.

    The answers of each half of the items are counted for the other half.
    """
    counts: list[dict[Hashable, Counter[str]]] = [defaultdict(Counter), defaultdict(Counter)]
    for number, item in enumerate(items):
        counts[number // FOLD % 2][key(item)][item.answers[0]] += 1
    right = []
    for number, item in enumerate(items):
        common = counts[1 - number // FOLD % 2][key(item)].most_common(1)
        right.append(bool(common) and common[0][0] in item.answers)
    return right


def by_kind(items: Sequence[Example], right: Sequence[bool]) -> dict[str, float]:
    """Returns the accuracy on the items of each kind, in the order in which the kinds occur."""
    hits: dict[str, list[bool]] = {}
    for item, is_right in zip(items, right, strict=True):
        hits.setdefault(item.kind, []).append(is_right)
    return {kind: sum(flags) / len(flags) for kind, flags in hits.items()}
