"""The check of one exercise: the learner's file, the cases, the first that fails, and why.

Previous: compare.py.  Next: diagnose.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cfg_gpt2 import require
from exercises.allowed import forbidden_uses
from exercises.catalogue import load_exercise
from exercises.child import Failure, Ran, run_in_child
from exercises.compare import Difference, first_difference
from exercises.diagnose import diagnose, distance_to
from exercises.exercise import Case, Exercise, Mistake, Outputs
from exercises.facts import Fact, facts_of
from exercises.probes import facts_of_probes
from exercises.run_part import in_double, run_case
from run_directory.paths import kind_of
from run_directory.printable import main_command


@dataclass
class Verdict:
    """What is known of a learner's file. It passes where nothing has failed."""

    exercise: Exercise
    path: Path
    cases: Sequence[Case] = ()
    n_right: int = 0
    failure: Failure | None = None  # no numbers to compare
    case: Case | None = None  # the first that fails
    difference: Difference | None = None
    mistakes: tuple[Mistake, ...] = ()
    to: float = 0.0  # the distance from the twin of these mistakes
    facts: list[Fact] = field(default_factory=list)
    printed: str = ""

    @property
    def passed(self) -> bool:
        """Whether all cases are right."""
        return self.failure is None and self.difference is None

    @property
    def result(self) -> str:
        """One word for what came out: passed, the names of the mistakes, or what failed."""
        if self.passed:
            return "passed"
        if self.mistakes:
            return "+".join(mistake.name for mistake in self.mistakes)
        return self.failure.key if self.failure else "unknown"


def check(name: str, folder: Path, seed: int) -> Verdict:
    """Returns the verdict on the learner's file of an exercise.

    Raises FileNotFoundError where it has not been started, ValueError where it is no text.
    """
    exercise = load_exercise(name)
    path = folder / exercise.file
    return check_text(exercise, text_of(path, name), path, seed)


def text_of(path: Path, name: str) -> str:
    """Returns the text of a learner's file, which is read once."""
    if kind_of(path) == "missing":
        begin = main_command("learn", "start", name)
        raise FileNotFoundError(f"{path} does not exist; begin with {begin}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8 in your editor") from None


def check_text(exercise: Exercise, text: str, path: Path, seed: int) -> Verdict:
    """Returns the verdict on a text."""
    verdict = Verdict(exercise, path, exercise.cases(seed))
    try:
        uses = list(forbidden_uses(exercise, text))
    except SyntaxError as error:
        values = {"line": str(error.lineno), "message": str(error.msg)}
        verdict.failure = Failure("syntax", values)
        return verdict
    if uses:
        line, name = uses[0]
        verdict.failure = Failure("forbidden", {"line": str(line), "name": name})
        return verdict
    ran = run_in_child(exercise.name, text, path, seed)
    verdict.printed = ran.printed
    judge(verdict, ran, seed)
    return verdict


@cache
def expected_outputs(exercise: Exercise, seed: int) -> list[Outputs]:
    """Returns what the oracle computes for each case, in fp64."""
    return [run_case(exercise.oracle, in_double(case)) for case in exercise.cases(seed)]


def judge(verdict: Verdict, ran: Ran, seed: int) -> None:
    """Fills in a verdict from what the child has sent."""
    verdict.failure = ran.failure
    if not ran.cases:
        return
    n_cases, expected = len(verdict.cases), expected_outputs(verdict.exercise, seed)
    firsts = list[tuple[Case, Failure | Difference]]()
    got: list[Outputs | None] = []
    for case, outputs, right in zip(verdict.cases, ran.cases[:n_cases], expected, strict=False):
        got.append(None if isinstance(outputs, Failure) else outputs)
        wrong = outputs if isinstance(outputs, Failure) else first_difference(case, outputs, right)
        if wrong:
            firsts.append((case, wrong))
    verdict.n_right = len(got) - len(firsts)
    if not firsts:
        return
    verdict.case, wrong = firsts[0]
    if isinstance(wrong, Failure):
        verdict.failure = wrong
        return
    verdict.difference = wrong
    verdict.mistakes = diagnose(verdict.exercise, verdict.cases, got, expected, wrong)
    if verdict.mistakes:
        verdict.to = distance_to(verdict.exercise, verdict.cases, got, verdict.mistakes)
    else:
        probes = verdict.exercise.probes(seed)
        verdict.facts = facts_of(verdict.cases, got, expected)
        if wrong.kind == "value" and wrong.output == "y":
            known = {fact.key for fact in verdict.facts}
            more = facts_of_probes(verdict.exercise, probes, ran.cases[n_cases:])
            verdict.facts += [fact for fact in more if fact.key not in known]


def require_passed(verdict: Verdict) -> None:
    """Raises ValueError where a file does not pass."""
    name = verdict.exercise.name
    require(verdict.passed, f"{verdict.path} does not pass; see python main.py learn check {name}")
