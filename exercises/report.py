"""What the learner reads: a verdict in his language, or as one line of JSON.

Previous: look.py.  Next: progress.py.
"""

import re
from collections.abc import Iterator

from torch import Tensor

from commands.language import Language
from exercises import english, russian
from exercises.check import Verdict
from exercises.child import Failure
from exercises.compare import Difference
from exercises.exercise import BOUND
from exercises.facts import Fact

TABLES = {"en": english, "ru": russian}
WIDTH = 12  # of the names at the left


def number(value: float, language: Language) -> str:
    """Returns a number with five digits, in Russian with a comma."""
    return localized(f"{value:.5g}", language)


def localized(text: str, language: Language) -> str:
    """Returns a text with the decimal sign of a language."""
    return re.sub(r"(?<=\d)\.(?=\d)", ",", text) if language == "ru" else text


def lines_of(verdict: Verdict, language: Language) -> Iterator[str]:
    """Yields the lines of a verdict."""
    labels, name = TABLES[language].LABELS, verdict.exercise.name
    count = len(verdict.cases)
    if verdict.passed:
        yield labels["passed"].format(name=name, count=count, path=verdict.path)
    elif verdict.case is None:
        yield labels["unusable"].format(name=name, path=verdict.path)
        yield f"  {failure_text(verdict.failure, language)}"
    else:
        yield labels["failed"].format(name=name, right=verdict.n_right, count=count)
        yield ""
        yield from lines_of_case(verdict, language)
        yield ""
        yield from lines_of_cause(verdict, language)
    if verdict.printed.strip():
        yield ""
        yield labels["printed"]
        yield from (f"  {line}" for line in verdict.printed.strip().splitlines()[:20])


def lines_of_case(verdict: Verdict, language: Language) -> Iterator[str]:
    """Yields the case, the place, and what was computed and expected there."""
    labels, case, wrong = TABLES[language].LABELS, verdict.case, verdict.difference
    assert case
    inputs = ", ".join(f"x {tuple(x.shape)}" for x in case.inputs)
    yield row(labels["check"], f"{case.name.of(language)}: {inputs}")
    if wrong is None:
        yield f"  {failure_text(verdict.failure, language)}"
        return
    yield row(labels["output"], output_text(wrong, language))
    if wrong.kind != "value":
        got, expected = shape_or_dtype(wrong.got, wrong), shape_or_dtype(wrong.expected, wrong)
        yield f"  {TABLES[language].FAILURES[wrong.kind].format(got=got, expected=expected)}"
        return
    if wrong.output == "differs":
        return
    yield row(labels["place"], place_text(verdict, wrong, language))
    if wrong.got.dim() == 1 and wrong.output == "y":
        yield row(labels["input"], number(float(case.inputs[0][wrong.place]), language))
    yield row(labels["computed"], number(wrong.computed_value, language))
    expected = number(wrong.expected_value, language)
    yield row(labels["expected"], f"{expected:14}{verdict.exercise.formula}")
    gap = number(abs(wrong.computed_value - wrong.expected_value), language)
    allowed = localized(f"{wrong.allowed:.1g}", language)
    yield row(labels["difference"], f"{gap:14}{labels['allowed']} {allowed}")


def lines_of_cause(verdict: Verdict, language: Language) -> Iterator[str]:
    """Yields the name of the mistake and a question that leads out, or facts."""
    labels, facts = TABLES[language].LABELS, TABLES[language].FACTS
    if verdict.mistakes:
        name = " + ".join(mistake.name for mistake in verdict.mistakes)
        key = "two" if len(verdict.mistakes) > 1 else "known"
        key = "known_noise" if any(m.is_noise for m in verdict.mistakes) else key
        to = localized(f"{max(verdict.to, BOUND / 1000):.0e}", language)
        yield "  " + labels[key].format(name=name, to=to)
        for mistake in verdict.mistakes:
            yield f"  {mistake.says.of(language)}"
        yield ""
        for mistake in verdict.mistakes:
            yield f"  ? {mistake.asks.of(language)}"
    elif verdict.difference and verdict.difference.kind == "value":
        yield "  " + labels["facts" if verdict.facts else "no_facts"]
        yield from (f"  * {fact_text(fact, facts, language)}" for fact in verdict.facts)
    else:
        yield from (f"  * {fact_text(fact, facts, language)}" for fact in verdict.facts)


def row(name: str, text: str) -> str:
    """Returns a line of the table of a verdict."""
    return f"  {name:{WIDTH}}{text}"


def output_text(wrong: Difference, language: Language) -> str:
    """Returns which output is wrong, with its shape."""
    texts, shape = TABLES[language].OUTPUTS, tuple(wrong.expected.shape)
    kind, _, name = wrong.output.partition(" ")
    return texts[kind].format(name=name, shape=shape)


def shape_or_dtype(tensor: Tensor, wrong: Difference) -> str:
    """Returns the shape of a tensor, or its dtype, whichever is wrong."""
    if wrong.kind == "shape":
        return str(tuple(tensor.shape))
    return str(tensor.dtype).removeprefix("torch.")


def place_text(verdict: Verdict, wrong: Difference, language: Language) -> str:
    """Returns the indices of the first wrong number, with the names of their axes."""
    assert verdict.case
    if wrong.output.startswith("grad"):
        return f"[{', '.join(map(str, wrong.place))}]"
    names = TABLES[language].AXES
    axes = verdict.case.axes
    return ", ".join(f"{names[a]} {n}" for a, n in zip(axes, wrong.place, strict=True))


def failure_text(failure: Failure | None, language: Language) -> str:
    """Returns the sentence of a failure, and the shapes on its line."""
    assert failure
    texts = TABLES[language].FAILURES
    sentence = texts[failure.key].format(**failure.values)
    if failure.values.get("shapes"):
        sentence += "\n  " + texts["shapes"].format(**failure.values)
    return sentence


def fact_text(fact: Fact, texts: dict[str, str], language: Language) -> str:
    """Returns the sentence of a fact, with the names of axes in a language."""
    names, values = TABLES[language].AXES, dict(fact.values)
    values["whens"] = "; ".join(when.of(language) for when in fact.whens)
    for key in ("axis", "expected_axis", "other_axis"):
        if key in values:
            values[key] = names[values[key]]
    if fact.key == "factor" and values["name"]:
        values["name"] = f" ({values['name']})"
    text = fact.told.of(language) if fact.told else texts[fact.key]
    sentence = localized(text.format(**values), language)
    if fact.when:
        begun = sentence[0].lower() + sentence[1:]
        return texts["when"].format(when=fact.when.of(language), fact=begun)
    return sentence


def as_record(verdict: Verdict, language: Language) -> dict[str, object]:
    """Returns a verdict as JSON has it: the figures, the names, and the sentences."""
    wrong, facts = verdict.difference, TABLES[language].FACTS
    record: dict[str, object] = {
        "exercise": verdict.exercise.name,
        "passed": verdict.passed,
        "result": verdict.result,
        "checks": len(verdict.cases),
        "right": verdict.n_right,
        "mistakes": [mistake.name for mistake in verdict.mistakes],
        "says": [mistake.says.of(language) for mistake in verdict.mistakes],
        "asks": [mistake.asks.of(language) for mistake in verdict.mistakes],
        "facts": [fact_text(fact, facts, language) for fact in verdict.facts],
        "failure": failure_text(verdict.failure, language) if verdict.failure else None,
    }
    if wrong and wrong.kind == "value":
        record |= {
            "check": verdict.case.name.of(language) if verdict.case else "",
            "output": wrong.output,
            "place": list(wrong.place),
            "computed": wrong.computed_value,
            "expected": wrong.expected_value,
            "allowed": wrong.allowed,
        }
    return record
