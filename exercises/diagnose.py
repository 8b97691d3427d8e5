"""Which known mistake computes what the learner's code computes.

The twins run on the learner's cases. Equal outputs and gradients in every case: that is the
mistake. Else two mistakes at once are tried. Mistakes whose numbers are rounding errors are known
by the cases that fail.
Previous: check.py.  Next: facts.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from exercises.compare import Difference, first_difference, largest_distance
from exercises.exercise import Case, Exercise, Mistake, Outputs, Part
from exercises.run_part import WrongContract, run_case
from exercises.source import twin

Got = Sequence[Outputs | None]  # of each case; None: the code raised an error


def diagnose(
    exercise: Exercise,
    cases: Sequence[Case],
    got: Got,
    expected: Sequence[Outputs],
    wrong: Difference,
) -> tuple[Mistake, ...]:
    """Returns the mistake, or the two, whose twin computes what the learner's code does."""
    failing = failing_cases(cases, got, expected)
    for mistakes in candidates(exercise, first=failing[0], got=got, cases=cases):
        part = twin(exercise, *mistakes)
        if part is None:
            continue
        if any(mistake.is_noise for mistake in mistakes):
            outputs = [try_case(part, case) for case in cases]
            if wrong.kind == "value" and failing == failing_cases(cases, outputs, expected):
                return mistakes
        elif equals(part, cases, got):
            return mistakes
    return ()


def candidates(
    exercise: Exercise, first: int, got: Got, cases: Sequence[Case]
) -> Iterator[tuple[Mistake, ...]]:
    """Yields each mistake, then the pairs that are right about the first failing case."""
    yield from ((mistake,) for mistake in exercise.mistakes)
    plain = [mistake for mistake in exercise.mistakes if not mistake.is_noise]
    for pair in combinations(plain, 2):
        part = twin(exercise, *pair)
        if part is not None and equals(part, cases[first : first + 1], got[first : first + 1]):
            yield pair


def try_case(part: Part, case: Case) -> Outputs | None:
    """Returns the outputs of a twin, None where it raises an error."""
    try:
        return run_case(part, case)
    except (RuntimeError, ValueError, IndexError, WrongContract):  # what torch says of shapes
        return None


def equals(part: Part, cases: Sequence[Case], got: Got) -> bool:
    """Tells whether a twin computes, in every case that ran, what the learner's code does."""
    pairs = [(case, mine) for case, mine in zip(cases, got, strict=False) if mine is not None]
    for case, mine in pairs:
        outputs = try_case(part, case)
        if outputs is None or largest_distance(mine, outputs) > case.bound:
            return False
    return bool(pairs)


def failing_cases(cases: Iterable[Case], got: Got, expected: Sequence[Outputs]) -> list[int]:
    """Returns the numbers of the cases whose outputs are wrong or missing."""
    triples = enumerate(zip(cases, got, expected, strict=False))
    return [n for n, (c, mine, e) in triples if mine is None or first_difference(c, mine, e)]


def distance_to(
    exercise: Exercise, cases: Sequence[Case], got: Got, mistakes: tuple[Mistake, ...]
) -> float:
    """Returns how far the learner's outputs are from a twin's in the cases of fp32."""
    part = twin(exercise, *mistakes)
    least = min(case.bound for case in cases)
    found = [0.0]
    for case, mine in zip(cases, got, strict=False):
        if part and mine is not None and case.bound == least:
            outputs = try_case(part, case)
            found.append(largest_distance(mine, outputs) if outputs else 0.0)
    return max(found)
