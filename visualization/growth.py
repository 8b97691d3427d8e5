"""Growth: when in training each thing was learned, measured on the snapshots of a run.

    regret per token of each kind of event, the scores of heads, the lens     at each snapshot

A run that is still training shows what there is so far. A curve tells when something changed, not
what made it change.
Previous: snapshot.py.  Next: growth_view.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cfg_gpt2 import require
from training.progress import MetricsLog
from training.snapshots import load_snapshot, steps_in
from visualization.attention import ROUNDED, as_text, pack
from visualization.blocks import Cell, Chart, Line, Table
from visualization.inspection import Inspection
from visualization.regret import Layout, regret_by_kind
from visualization.snapshot import Snapshot, Texts, measure

LEARNED = 0.1  # bits of regret per token, below which a kind of event is said to be learned


@dataclass(frozen=True)
class KindGrowth:
    """What one kind of event costs above the ideal reader, at each snapshot."""

    kind: str
    n: int  # events
    n_tokens: int
    ideal_bits: float  # per event
    regret: list[float]  # bits per event
    learned_at: int | None  # the first step from which on it stays below LEARNED per token


@dataclass(frozen=True)
class LensGrowth:
    """How early in its depth the model has its answer, at each snapshot."""

    depths: list[str]
    kl_to_end: list[list[float]]  # bits, by snapshot and depth
    settled: list[float]  # the mean first depth from which on the likeliest token stays


@dataclass(frozen=True)
class AttentionGrowth:
    """Where one head looks in the text that is read, at each snapshot."""

    head: str  # layer.head
    shape: tuple[int, int, int, int]  # snapshots, 1, T, T
    encoding: str
    weight: str


@dataclass(frozen=True)
class Growth:
    """The snapshots of a run, the first one first, and what was measured on each."""

    steps: list[int]
    left_out: list[int]  # steps whose file cannot be read
    n_stories: int  # 0: the text that is read, alone
    bits_per_byte: list[float]
    floor: float | None  # of the same stories
    validation: list[tuple[int, float]]  # steps and bits per byte, as training measured them
    heads: dict[str, list[list[list[float]]]]  # a kind of score: by snapshot, layer and head
    chance: dict[str, float]
    lens: LensGrowth
    kinds: list[KindGrowth]  # in the order in which they were learned
    probes: dict[str, list[float]]  # a fact: how often a probe reads it at the question
    attention: AttentionGrowth
    curves: list[Chart] = field(default_factory=list)  # all of it, as the page draws it
    tables: list[Table] = field(default_factory=list)


def growth_of(inspection: Inspection) -> Growth:
    """Returns what was learned when. Raises ValueError for a run without snapshots."""
    steps = steps_in(inspection.run)
    require(
        len(steps) > 0,
        f"{inspection.run} has no snapshots, which --view growth compares; train with "
        "--train.snapshots 16, as the default preset does",
    )
    text = Texts.of(inspection)
    rows, left_out = list[Snapshot](), list[int]()
    for number, step in enumerate(steps):
        inspection.report(number, len(steps))
        try:
            rows.append(measure(step, load_snapshot(inspection.run, step), text))
        except (FileNotFoundError, ValueError):  # removed since it was listed, or not yet whole
            left_out.append(step)
    require(len(rows) > 0, f"none of the {len(steps)} snapshots of {inspection.run} is whole")
    grown = Growth(
        steps=[row.step for row in rows],
        left_out=left_out,
        n_stories=text.n_stories,
        bits_per_byte=[round(float(row.bits.sum()) / text.n_bytes, 5) for row in rows],
        floor=round(float(text.ideal.sum()) / text.n_bytes, 5) if text.layout else None,
        validation=validation_of(inspection.run),
        heads={kind: [row.heads[kind] for row in rows] for kind in rows[0].heads},
        chance=rows[0].chance,
        lens=LensGrowth(rows[0].depths, [row.kl for row in rows], [row.settled for row in rows]),
        kinds=grown_kinds(text.layout, text.ideal, rows) if text.layout else [],
        probes={fact: [row.probes[fact] for row in rows] for fact in rows[0].probes},
        attention=attention_growth(rows),
    )
    return replace(grown, curves=charts_of(grown), tables=tables_of(grown.kinds))


def charts_of(grown: Growth) -> list[Chart]:
    """Returns the charts of the page: bits, heads, the lens, probes, and regret by kind."""
    steps, heads, lens = grown.steps, grown.heads, grown.lens
    charts = [
        Chart("bits_per_byte", steps, [Line("model", [*grown.bits_per_byte])], floor=grown.floor)
    ]
    for name, by_step in heads.items():
        lines = [
            Line(f"{layer}.{head}", [scores[layer][head] for scores in by_step])
            for layer, row in enumerate(by_step[0])
            for head in range(len(row))
        ]
        charts.append(Chart(name, steps, lines, chance=grown.chance[name]))
    by_depth = zip(lens.depths, zip(*lens.kl_to_end, strict=True), strict=True)
    charts.append(Chart("lens", steps, [Line(name, [*values]) for name, values in by_depth]))
    if grown.probes:
        read = [Line(fact, [*shares]) for fact, shares in grown.probes.items()]
        charts.append(Chart("probes", steps, read))
    if grown.kinds:
        lines = [
            Line(k.kind, [round(bits * k.n / k.n_tokens, 5) for bits in k.regret])
            for k in grown.kinds
        ]
        charts.append(Chart("regret", steps, lines))
    return charts


def tables_of(kinds: Sequence[KindGrowth]) -> list[Table]:
    """Returns the table of the page: kinds of event in the order of learning."""
    columns = ["kind", "learned_at", "ideal_bits", "regret", "n"]
    rows: list[list[Cell]] = [
        [k.kind, k.learned_at, k.ideal_bits, k.regret[-1], k.n] for k in kinds
    ]
    return [Table("learned", columns, rows)] if rows else []


def grown_kinds(layout: Layout, ideal: np.ndarray, rows: Sequence[Snapshot]) -> list[KindGrowth]:
    """Returns the kinds of event in the order in which they were learned."""
    tables = [{row.kind: row for row in regret_by_kind(layout, ideal, each.bits)} for each in rows]
    kinds = []
    for kind, n in layout.n_events.items():
        n_tokens = layout.kinds.count(kind)
        regret = [table[kind].regret for table in tables]
        kinds.append(
            KindGrowth(
                kind=kind,
                n=n,
                n_tokens=n_tokens,
                ideal_bits=round(tables[0][kind].ideal_bits / n, 4),
                regret=[round(bits / n, 4) for bits in regret],
                learned_at=learned_at([each.step for each in rows], regret, n_tokens),
            )
        )
    never = rows[-1].step + 1
    kinds.sort(key=lambda k: (never if k.learned_at is None else k.learned_at, k.regret[-1]))
    return kinds


def learned_at(steps: Sequence[int], regret: Sequence[float], n_tokens: int) -> int | None:
    """Returns the first step from which on a regret stays below LEARNED per token."""
    found = None
    for step, bits in zip(reversed(steps), reversed(regret), strict=True):
        if bits >= LEARNED * n_tokens:
            break
        found = step
    return found


def validation_of(run: Path) -> list[tuple[int, float]]:
    """Returns the steps at which training evaluated, and the bits per byte that it measured."""
    lines = MetricsLog(run, writes=False).read()
    return [
        (int(line["step"]), round(line["val_bits_per_byte"], 5))
        for line in lines
        if "val_bits_per_byte" in line
    ]


def attention_growth(rows: Sequence[Snapshot]) -> AttentionGrowth:
    """Returns the attention of one head at each snapshot: of the last one's best head for facts.

    Where no facts are known it is the best induction head.
    """
    scores = rows[-1].heads
    layer, head = strongest(scores.get("fact", scores.get("induction", [])))
    maps = [row.attention[layer][head : head + 1] for row in rows]
    shape = (len(maps), 1, *maps[0].shape[1:])
    return AttentionGrowth(f"{layer}.{head}", shape, ROUNDED, as_text(pack(maps)))


def strongest(scores: Sequence[Sequence[float]]) -> tuple[int, int]:
    """Returns the layer and the number of the head with the highest score; 0, 0 without scores."""
    places = [(layer, head) for layer, row in enumerate(scores) for head in range(len(row))]
    return max(places, key=lambda place: scores[place[0]][place[1]], default=(0, 0))
