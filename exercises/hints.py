"""Hints, one rung after the other: a question, the place and its shape, the line with a gap.

Where the mistake is known, the rungs are its own: the place is that of its change in the solution.
Else they are those of the exercise.
Previous: train.py.  Next: command.py.
"""

from itertools import takewhile

from commands.language import Language
from exercises import english, russian
from exercises.exercise import Exercise, Mistake
from exercises.source import solution_of

TABLES = {"en": english, "ru": russian}
GAP = "____"


def rungs(exercise: Exercise, mistakes: tuple[Mistake, ...], language: Language) -> list[str]:
    """Returns the hints of an exercise in their order."""
    if not mistakes:
        return [hint.of(language) for hint in exercise.hints]
    mistake, labels = mistakes[0], TABLES[language].LABELS
    old, new = mistake.edits[0]
    line = next((line for line in solution_of(exercise).splitlines() if old in line), "")
    code, _, shape = line.partition("  # ")
    target = code.partition(" = ")[0].strip()
    key = "hint_place" if " = " in code else "hint_return"
    place = labels[key].format(target=target, formula=exercise.formula)
    if shape:
        place += labels["hint_shape"].format(shape=shape)
    gap = labels["hint_gap"].format(line=with_gap(code.strip(), old, new))
    return [mistake.asks.of(language), place, gap]


def with_gap(code: str, old: str, new: str) -> str:
    """Returns a line of the solution with a gap where the mistake changes it.

    The gap has whole words and closes the brackets that it opens.
    """
    start = len(common_start(old, new))
    stop = len(old) - len(common_start(old[start:][::-1], new[start:][::-1]))
    while start and is_letter(old[start - 1]):
        start -= 1
    while stop < len(old) and is_letter(old[stop]):
        stop += 1
    while stop < len(old) and old[start:stop].count("(") > old[start:stop].count(")"):
        stop += 1
    while start and old[start:stop].count(")") > old[start:stop].count("("):
        start -= 1
    return code.replace(old, old[:start] + GAP + old[stop:], 1)


def is_letter(character: str) -> bool:
    """Tells whether a character is part of a name or of a number."""
    return character.isalnum() or character in "_."


def common_start(one: str, other: str) -> str:
    """Returns the letters with which two texts begin alike."""
    pairs = zip(one, other, strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
