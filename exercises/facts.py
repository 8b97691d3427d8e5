"""What can be said of wrong numbers that no known mistake explains.

In this order: no numbers, sums, a factor, an added term, right numbers at wrong places, places that
are right, positions that see what they may not, gradients.
Previous: diagnose.py.  Next: english.py.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import torch
from torch import Tensor

from exercises.compare import Difference, distance, first_difference
from exercises.diagnose import Got
from exercises.exercise import Case, Outputs, Text

CLOSE = 1e-4  # relative; a fact is coarser than a check
MOST_FACTS = 3


@dataclass(frozen=True)
class Fact:
    """Something that can be said of wrong numbers: the key of its sentence, and the values.

    when: under which simplification it holds. whens: simplifications that the sentence lists.
    """

    key: str
    values: dict[str, str] = field(default_factory=dict)
    when: Text | None = None
    whens: tuple[Text, ...] = ()
    told: Text | None = None  # the sentence itself, where it belongs to one exercise


def facts_of(cases: Sequence[Case], got: Got, expected: Sequence[Outputs]) -> list[Fact]:
    """Returns the first facts about the first case that is wrong, and about influence."""
    facts = list[Fact]()
    rows = list(zip(cases, got, expected, strict=False))
    for case, mine, right in rows:
        wrong = first_difference(case, mine, right) if mine is not None else None
        if wrong and mine is not None:
            facts += facts_of_case(case, mine, right, wrong)
            break
    for case, mine, right in rows:
        if case.kind == "influence" and mine is not None:
            facts += leaks(mine["influence"], right["influence"])
    return facts[:MOST_FACTS]


def facts_of_case(case: Case, got: Outputs, expected: Outputs, wrong: Difference) -> Iterator[Fact]:
    """Yields what can be said about the first wrong output of a case."""
    if wrong.kind == "shape":
        yield from facts_of_shape(wrong)
        return
    if wrong.kind == "dtype" or case.kind != "values":
        return
    a, b = wrong.got.double(), wrong.expected.double()
    if not a.isfinite().all():
        yield Fact("not_finite", {"count": str(int((~a.isfinite()).sum())), "all": str(a.numel())})
        yield from right_places(a, b, case)
        return
    if wrong.output.startswith("grad"):
        yield from facts_of_gradient(got, expected, wrong)
        return
    yield from zeros(a, b, case)
    yield from sums(a, b, case)
    yield from factors(a, b, case)
    yield from added(a, b, case)
    yield from moved(a, b, case)
    yield from right_places(a, b, case)


def facts_of_shape(wrong: Difference) -> Iterator[Fact]:
    """Says where the right numbers are, in an output of a wrong shape."""
    if wrong.got.numel() != wrong.expected.numel():
        return
    for order in permutations(range(wrong.got.dim())):
        moved = wrong.got.permute(order)
        if moved.shape == wrong.expected.shape and distance(moved, wrong.expected) < CLOSE:
            yield Fact("axes_exchanged", {})
            return
    if distance(wrong.got.reshape(wrong.expected.shape), wrong.expected) < CLOSE:
        yield Fact("only_reshape", {})


def facts_of_gradient(got: Outputs, expected: Outputs, wrong: Difference) -> Iterator[Fact]:
    """Says which gradients are wrong, where the output is right."""
    names = [name for name in expected if name.startswith("grad")]
    bad = [name for name in names if distance(got[name], expected[name]) > CLOSE]
    none = [name.removeprefix("grad ") for name in bad if not got[name].any()]
    if none:
        yield Fact("no_gradient", {"names": ", ".join(none)})
    good = [name.removeprefix("grad ") for name in names if name not in bad]
    if good:
        yield Fact("right_gradients", {"names": ", ".join(good)})
    ratio = fitted_factor(wrong.got, wrong.expected)
    if ratio is not None and ratio != 0:
        yield Fact("factor", {"factor": shown(ratio), "name": name_of_number(ratio)})


def zeros(a: Tensor, b: Tensor, case: Case) -> Iterator[Fact]:
    """Says where a number is not 0 that must be, and where one is 0 that must not be."""
    if not (b == 0).any() or b.dim() < 2:
        return
    for key, places in (("not_zero", (b == 0) & (a != 0)), ("zero", (b != 0) & (a == 0))):
        if places.any():
            *_, t, s = places.nonzero()[0].tolist()
            axes = {"axis": case.axes[-2], "other_axis": case.axes[-1]}
            yield Fact(key, axes | {"t": str(t), "s": str(s), "count": str(int(places.sum()))})


def sums(a: Tensor, b: Tensor, case: Case) -> Iterator[Fact]:
    """Says what the numbers along an axis add up to, where they should add up to 1."""
    ones = torch.ones((), dtype=b.dtype)
    if b.dim() < 2 or distance(b.sum(-1), ones.expand(b.shape[:-1])) > CLOSE:
        return
    rows = a.sum(-1)
    if distance(rows, torch.ones_like(rows)) < CLOSE:
        if (a < 0).any():
            yield Fact("negative", {})
        return
    for n in range(a.dim() - 1):
        total = a.sum(n)
        if distance(total, torch.ones_like(total)) < CLOSE:
            yield Fact("sums_along", {"axis": case.axes[n], "expected_axis": case.axes[-1]})
            return
    yield Fact("sums", {"least": shown(float(rows.min())), "most": shown(float(rows.max()))})


def factors(a: Tensor, b: Tensor, case: Case) -> Iterator[Fact]:
    """Says where the numbers are a multiple of the expected: all by one factor, or by several."""
    if not a.any():
        yield Fact("all_zero", {})
        return
    ratio = fitted_factor(a, b)
    if ratio is not None:
        key = "sign" if abs(ratio + 1) < CLOSE else "factor"
        yield Fact(key, {"factor": shown(ratio), "name": name_of_number(ratio)})
        return
    for n, axis in enumerate(case.axes):
        others = [m for m in range(b.dim()) if m != n]
        if not others or b.size(n) < 2:
            continue
        ratios = (a * b).sum(others, keepdim=True) / b.square().sum(others, keepdim=True)
        if distance(a, ratios * b) < CLOSE:
            low, high = shown(float(ratios.min())), shown(float(ratios.max()))
            yield Fact("factor_of_each", {"axis": axis, "least": low, "most": high})
            return
    ratios = (a * b).sum(-1, keepdim=True) / b.square().sum(-1, keepdim=True)
    if b.dim() > 2 and distance(a, ratios * b) < CLOSE:
        low, high = shown(float(ratios.min())), shown(float(ratios.max()))
        yield Fact("factor_of_each", {"axis": case.axes[-2], "least": low, "most": high})


def fitted_factor(a: Tensor, b: Tensor) -> float | None:
    """Returns r where a is r times b, None where it is no multiple."""
    a, b = a.double(), b.double()
    ratio = float((a * b).sum() / b.square().sum().clamp(min=1e-30))
    return ratio if ratio and distance(a, ratio * b) < CLOSE else None


def added(a: Tensor, b: Tensor, case: Case) -> Iterator[Fact]:
    """Says where the difference is one number, one of each slice, or an input."""
    gap = a - b
    for n, x in enumerate(case.inputs):
        for sign in (1, -1):
            if x.shape == gap.shape and distance(gap, sign * x.double()) < CLOSE:
                name = f"x{n}" if n else "x"
                yield Fact("plus_input" if sign > 0 else "minus_input", {"name": name})
                return
    if distance(gap, gap.mean().expand(gap.shape)) < CLOSE:
        yield Fact("offset", {"offset": shown(float(gap.mean()))})
        return
    for name, weight in case.weights.items():
        if weight.dim() == 1 and weight.shape == gap.shape[-1:]:
            for sign in (1, -1):
                if distance(gap, (sign * weight.double()).expand(gap.shape)) < CLOSE:
                    key = "plus_weight" if sign > 0 else "minus_weight"
                    yield Fact(key, {"name": name})
                    return
    if gap.dim() > 1 and distance(gap, gap.mean(-1, keepdim=True).expand(gap.shape)) < CLOSE:
        yield Fact("offset_of_each", {"axis": case.axes[-2]})


def moved(a: Tensor, b: Tensor, case: Case) -> Iterator[Fact]:
    """Says where the right numbers stand at other places."""
    if distance(a.flatten().sort().values, b.flatten().sort().values) > CLOSE:
        return
    for n, axis in enumerate(case.axes):
        mine, right = a.movedim(n, 0).flatten(1), b.movedim(n, 0).flatten(1)
        gaps = torch.cdist(right, mine)
        order = gaps.argmin(dim=1)
        if distance(mine[order], right) < CLOSE:
            listed = " ".join(map(str, order.tolist()[:12]))
            yield Fact("order", {"axis": axis, "order": listed})
            return
    yield Fact("moved", {})


def right_places(a: Tensor, b: Tensor, case: Case) -> Iterator[Fact]:
    """Says along which axis some slices are right and the others are wrong."""
    scale = float(b.abs().max())
    if b.dim() == 1 and case.inputs[0].shape == b.shape:
        yield from right_values(a, b, case)
        return
    wrong = ~((a - b).abs() <= CLOSE * scale)
    for n, axis in reversed(list(enumerate(case.axes))):
        others = [m for m in range(b.dim()) if m != n]
        bad = wrong.any(dim=others) if others else wrong
        right = [i for i, is_bad in enumerate(bad.tolist()) if not is_bad]
        if 0 < len(right) < b.size(n):
            last = str(b.size(n) - 1)
            yield Fact("right_at", {"axis": axis, "places": ranges(right), "last": last})


def right_values(a: Tensor, b: Tensor, case: Case) -> Iterator[Fact]:
    """Says for which values of an ascending x the output is right."""
    right = ((a - b).abs() <= CLOSE * float(b.abs().max())).tolist()
    x, spans, start = case.inputs[0].tolist(), [], None
    for n, is_right in enumerate([*right, False]):
        if is_right and start is None:
            start = n
        elif not is_right and start is not None:
            first, last = f"{x[start]:.2f}", f"{x[n - 1]:.2f}"
            spans.append(first if start == n - 1 else f"{first} .. {last}")
            start = None
    if 0 < len(spans) <= 4:
        yield Fact("right_for", {"spans": ", ".join(spans)})


def leaks(got: Tensor, expected: Tensor) -> Iterator[Fact]:
    """Says which position sees one that it may not see, or does not see one that it should."""
    if got.shape != expected.shape:
        return
    seen, allowed = got > 1e-6, expected > 1e-6
    for key, places in (("leak", seen & ~allowed), ("blind", allowed & ~seen)):
        if places.any():
            t, s = places.nonzero()[0].tolist()
            name = "future" if key == "leak" and s > t else key
            yield Fact(name, {"t": str(t), "s": str(s), "count": str(int(places.sum()))})


def name_of_number(ratio: float) -> str:
    """Returns what a factor may be, such as sqrt(8) or 1 / 12; "" where it is no such number."""
    size = abs(ratio)
    if size < 1e-6 or abs(size - 1) < CLOSE:
        return ""
    for value, form in ((size, "{}"), (1 / size, "1 / {}")):
        whole, square = round(value), round(value * value)
        if whole >= 2 and abs(value / whole - 1) < CLOSE:
            return form.format(whole)
        if square >= 2 and abs(value / math.sqrt(square) - 1) < CLOSE and square < 5000:
            return form.format(f"sqrt({square})")
    named = {
        "ln 2": math.log(2),
        "1 / ln 2": 1 / math.log(2),
        "pi": math.pi,
        "sqrt(pi / 2)": math.sqrt(math.pi / 2),
        "sqrt(2 / pi)": math.sqrt(2 / math.pi),
        "2 / pi": 2 / math.pi,
        "pi / 2": math.pi / 2,
    }
    for name, number in named.items():
        if abs(size / number - 1) < CLOSE:
            return name
    return ""


def shown(number: float) -> str:
    """Returns a number with four digits."""
    return f"{number:.4g}"


def ranges(numbers: list[int]) -> str:
    """Returns numbers as 0-3, 5."""
    parts, start = [], 0
    for n in range(1, len(numbers) + 1):
        if n == len(numbers) or numbers[n] != numbers[n - 1] + 1:
            first, last = numbers[start], numbers[n - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = n
    return ", ".join(parts)
