"""What the probes say: where a part is right, and what its numbers are, in simplified cases.

So a wrong attention is cut down: with one head, with all scores equal, with an out_proj that
changes nothing. Right in one of them: the mistake is in what was taken away.
Previous: facts.py.  Next: english.py.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from exercises.child import Failure
from exercises.compare import distance
from exercises.exercise import Exercise, Outputs, Probe
from exercises.facts import CLOSE, Fact, added, factors, fitted_factor, name_of_number, shown
from exercises.run_part import in_double, run_case


def facts_of_probes(
    exercise: Exercise, probes: Sequence[Probe], got: Sequence[Outputs | Failure]
) -> list[Fact]:
    """Returns what is found in the probes, then where the part is right, or not even then."""
    found, right, wrong = list[Fact](), list[Probe](), list[Probe]()
    for probe, outputs in zip(probes, got, strict=False):
        if isinstance(outputs, Failure):
            continue
        expected = run_case(exercise.oracle, in_double(probe.case))["y"]
        mine = outputs["y"].double()
        if mine.shape != expected.shape:
            continue
        pair = (mine, expected)
        if probe.derive:
            pair = (probe.derive(mine), probe.derive(expected))
        if distance(*pair) <= CLOSE:
            right.append(probe)
            continue
        wrong.append(probe)
        found += list(facts_of_probe(probe, mine, *pair))[:1]
    kept = [fact for n, fact in enumerate(found) if fact.key not in keys_of(found[:n])][:2]
    whens = [probe.when for probe in right if not probe.derive and not probe.simplest]
    if whens:
        kept.append(Fact("right_where", whens=tuple(whens[:3])))
    elif simple := [probe for probe in (*right, *wrong) if probe.simplest]:
        key = "right_where" if simple[0] in right else "wrong_even"
        kept.append(Fact(key, whens=(simple[0].when,)))
    return kept


def keys_of(facts: Sequence[Fact]) -> set[str]:
    """Returns the keys of some facts."""
    return {fact.key for fact in facts}


def facts_of_probe(probe: Probe, y: Tensor, mine: Tensor, right: Tensor) -> Iterator[Fact]:
    """Yields what can be said of the numbers of one probe."""
    if not mine.isfinite().all():
        return
    if probe.derive:
        ratio = fitted_factor(mine, right)
        if ratio is not None:
            values = {"factor": shown(ratio), "name": name_of_number(ratio)}
            yield Fact("factor", values, when=probe.when)
        return
    plain = [*factors(mine, right, probe.case), *added(mine, right, probe.case)]
    yield from (Fact(fact.key, fact.values, when=probe.when) for fact in plain)
    if probe.measure and probe.told:
        yield Fact("", probe.measure(y), when=probe.when, told=probe.told)
