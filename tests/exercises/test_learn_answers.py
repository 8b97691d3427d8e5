"""Right answers pass, however they are written; every known mistake is refused and named."""

from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from oracles.mutants import mutants
from oracles.right_answers import RIGHT
from oracles.wrong_answers import WRONG

from commands.language import Language
from exercises.allowed import forbidden_uses
from exercises.catalogue import EXERCISES, load_exercise
from exercises.check import Verdict, check_text, expected_outputs, judge
from exercises.child import Ran
from exercises.compare import first_difference, largest_distance
from exercises.diagnose import try_case
from exercises.exercise import Case, Exercise, Mistake, Outputs, Part
from exercises.report import lines_of
from exercises.run_part import run_case
from exercises.source import edited, header_of, module_of, solution_of, twin

MARGIN = 8  # right answers lie 8 times below the bound, mistakes 8 times above
EQUIVALENT: dict[str, dict[str, str]] = {  # mutants that compute the same, and why
    "gelu": {},
    "layer-norm": {},
    "feed-forward": {},
    "block": {},
    "causal-softmax": {
        "no minus: -2": "axis 2 of four",
        "no device: torch.ones(T, S, dtype=torch.bool, device=scores.device)": "on a CPU",
    },
    "attention": {
        "no minus: -2": "axis 2 of four",
        "no device: torch.ones(T, T, dtype=torch.bool, device=x.device)": "on a CPU",
    },
}
ALL_RIGHT = [
    pytest.param(name, label, id=f"{name}, {label}") for name in RIGHT for label in RIGHT[name]
]
NOTED = [
    pytest.param(name, label, id=f"{name}, {label}", marks=[pytest.mark.slow] * (n > 0))
    for name in WRONG
    for n, label in enumerate(WRONG[name])
]
ALL_MISTAKES = [
    pytest.param(name, mistake, id=f"{name}, {mistake.name}")
    for name in EXERCISES
    for mistake in load_exercise(name).mistakes
]


def margins(exercise: Exercise, part: Part) -> list[float]:
    """Returns the distance of each case in units of its bound, inf where it raises an error."""
    cases, expected = exercise.cases(1), expected_outputs(exercise, 1)
    outputs = [try_case(part, case) for case in cases]
    return [
        largest_distance(mine, right) / case.bound if mine else float("inf")
        for case, mine, right in zip(cases, outputs, expected, strict=True)
    ]


@pytest.mark.parametrize(("name", "label"), ALL_RIGHT)
def test_right_answers_pass_however_they_are_written(name: str, label: str) -> None:
    exercise, text = load_exercise(name), RIGHT[name][label]
    assert list(forbidden_uses(exercise, text)) == []
    part = getattr(module_of(text, label, "right_answer"), exercise.part.__name__)
    for case, expected in zip(exercise.cases(1), expected_outputs(exercise, 1), strict=True):
        assert first_difference(case, run_case(part, case), expected) is None, case.name.en


@pytest.mark.parametrize("name", EXERCISES)
def test_every_exercise_has_three_right_answers_and_margins_of_eight(name: str) -> None:
    exercise = load_exercise(name)
    assert len(RIGHT[name]) >= 3
    parts = [exercise.solution, exercise.part]
    parts += [
        getattr(module_of(text, label, "right_answer"), exercise.part.__name__)
        for label, text in RIGHT[name].items()
    ]
    worst = [max(column) for column in zip(*(margins(exercise, p) for p in parts), strict=True)]
    assert max(worst) <= 1 / MARGIN, [f"{number:.2g}" for number in worst]


@cache
def outputs_of(name: str, mistake: Mistake) -> list[Outputs | None]:
    exercise = load_exercise(name)
    part = twin(exercise, mistake)
    assert part, f"{mistake.name} finds no place in the solution"
    return [try_case(part, case) for case in exercise.cases(1)]


@pytest.mark.parametrize("name", EXERCISES)
def test_every_mistake_is_eight_bounds_from_right_and_from_every_other(name: str) -> None:
    exercise = load_exercise(name)
    cases, expected = exercise.cases(1), expected_outputs(exercise, 1)
    assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes)
    for mistake in exercise.mistakes:
        assert gap(cases, outputs_of(name, mistake), expected) >= MARGIN, mistake.name
    for one, other in combinations(exercise.mistakes, 2):
        apart = gap(cases, outputs_of(name, one), outputs_of(name, other))
        assert apart >= MARGIN, (one.name, other.name, apart)


def gap(cases: list[Case], ones: list[Outputs | None], others: list[Outputs | None]) -> float:
    """Returns how far two ways to compute lie apart, in units of a case's bound.

    It is the distance in the first case that is MARGIN or more, or else the largest.
    """
    found = [0.0]
    for case, one, other in zip(cases, ones, others, strict=True):
        if one and other:
            found.append(largest_distance(one, other) / case.bound)
        elif (one is None) != (other is None):
            found.append(float("inf"))
        if found[-1] >= MARGIN:
            break
    return max(found)


def verdict_on(exercise: Exercise, outputs: list[Outputs | None]) -> Verdict:
    """Returns the verdict on outputs, as if a learner's file had computed them."""
    verdict = Verdict(exercise, Path("mine.py"), exercise.cases(1))
    assert all(outputs)
    judge(verdict, Ran([mine for mine in outputs if mine]), seed=1)
    return verdict


SOME = ("exact", "n_minus_1", "bf16_statistics", "first_key", "by_sqrt_c", "interleaved")


@pytest.mark.parametrize("mistake_name", SOME)
def test_a_mistake_is_named(mistake_name: str) -> None:
    exercise, mistake = next(
        (exercise, mistake)
        for exercise in map(load_exercise, EXERCISES)
        for mistake in exercise.mistakes
        if mistake.name == mistake_name
    )
    verdict = verdict_on(exercise, outputs_of(exercise.name, mistake))
    assert verdict.result == mistake_name and not verdict.passed


def test_two_mistakes_at_once_are_named_together() -> None:
    exercise = load_exercise("attention")
    pair = [exercise.mistake("unscaled"), exercise.mistake("joined_without_transpose")]
    part = twin(exercise, *pair)
    assert part
    verdict = verdict_on(exercise, [run_case(part, case) for case in exercise.cases(1)])
    assert verdict.result == "unscaled+joined_without_transpose"


@pytest.mark.parametrize(("name", "label"), NOTED)
def test_a_mistake_that_no_list_has_gets_facts(name: str, label: str) -> None:
    exercise = load_exercise(name)
    edits, phrase = WRONG[name][label]
    text = header_of(exercise) + solution_of(exercise)
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    part = getattr(module_of(text, label, "wrong_answer"), exercise.part.__name__)
    probes = [probe.case for probe in exercise.probes(1)]
    verdict = verdict_on(exercise, [try_case(part, c) for c in [*exercise.cases(1), *probes]])
    assert verdict.result == "unknown"
    assert phrase in "\n".join(lines_of(verdict, "en"))
    assert len(verdict.facts) == len(lines_of_facts(verdict, "ru"))


def lines_of_facts(verdict: Verdict, language: Language) -> list[str]:
    return [line for line in lines_of(verdict, language) if line.startswith("  * ")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mistake"), ALL_MISTAKES)
def test_every_mistake_as_a_file_is_refused_and_named(
    name: str, mistake: Mistake, tmp_path: Path
) -> None:
    exercise = load_exercise(name)
    text = header_of(exercise) + (edited(exercise, [mistake]) or "")
    for seed in (1, 2, 3):
        verdict = check_text(exercise, text, tmp_path / exercise.file, seed)
        assert verdict.result == mistake.name, seed


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_right_answers_pass_with_every_seed(name: str, tmp_path: Path) -> None:
    exercise = load_exercise(name)
    texts = [*RIGHT[name].values(), header_of(exercise) + solution_of(exercise)]
    for text in texts:
        for seed in range(20):
            assert check_text(exercise, text, tmp_path / exercise.file, seed).passed, seed


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_automatic_mutants_are_refused(name: str) -> None:
    exercise = load_exercise(name)
    cases, expected = exercise.cases(1), expected_outputs(exercise, 1)
    survivors, n_all = [], 0
    for what, text in mutants(solution_of(exercise)):
        n_all += 1
        if passes(exercise, text, cases, expected):
            survivors.append(what)
    unexplained = [what for what in survivors if what not in EQUIVALENT[name]]
    print(f"\n{name}: {n_all} mutants, {len(survivors)} survive: {survivors}")
    assert n_all >= 15
    assert unexplained == []


def passes(exercise: Exercise, text: str, cases: list[Case], expected: list[Outputs]) -> bool:
    """Tells whether a mutant computes what is expected in every case."""
    try:
        part = getattr(
            module_of(header_of(exercise) + text, "mutant", "mutant"), exercise.part.__name__
        )
        for case, right in zip(cases, expected, strict=True):
            if first_difference(case, run_case(part, case), right):
                return False
    except Exception:  # noqa: BLE001  a mutant may raise anything
        return False
    return True
