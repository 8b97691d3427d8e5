"""Probes and steering as views: what stands in the stream, beside all controls, and its use.

Previous: steering.py.  Next: word_classes.py.
"""

from itertools import islice

from data.tiny_world.stories import corpus, stories
from visualization.blocks import Blocks, Cell, Map, Table, said, show_blocks
from visualization.facts import PLACE_OF
from visualization.ideal import IdealReader, reader_of
from visualization.inspection import Inspection, Report, Spoken, View
from visualization.probe_table import FactRow, ProbeTable, measure_probes
from visualization.probes import N_TEST, N_TRAIN, Moment, Probe, moments_of
from visualization.steering import cases_of, steer

PLACE: Spoken = {
    "en": "At the end of an event the place of the first person is read with {probe:.0%}, "
    "{more:+.0f} points against an untrained model; at the question in the evening with "
    "{asked:.0%}.",
    "ru": "В конце события место первого героя читается в {probe:.0%} случаев, {more:+.0f} п. п. "
    "против необученной модели; в месте вечернего вопроса — в {asked:.0%}.",
}
HARD: Spoken = {
    "en": "Where the place named last is wrong it is read with {hard:.0%}; the most frequent place "
    "is right there in {majority:.0%}.",
    "ru": "Там, где последнее названное место неверно, оно читается в {hard:.0%}; самое частое "
    "место верно там в {majority:.0%}.",
}
DECEIVED: Spoken = {
    "en": "Where {person} is deceived about the thing, the probe of the belief says the belief in "
    "{belief:.0%} and the truth in {truth:.0%} of {n} moments.",
    "ru": "Там, где герой ({person}) ошибается, где вещь, проба его мнения называет мнение в "
    "{belief:.0%}, а правду в {truth:.0%} из {n} моментов.",
}
COLUMNS = ["fact", "probe", "layer", "untrained", "shuffled", "majority", "named_last",
           "hard", "hard_untrained", "hard_majority"]  # fmt: skip


def fitted(
    inspection: Inspection, reader: IdealReader, moment: Moment, report: Report
) -> tuple[ProbeTable, list[Probe]]:
    """Fits the probes to N_TRAIN training stories, and tests them on N_TEST validation stories."""
    tokenizer, length = inspection.tokenizer, inspection.model.config.context_length
    learned = corpus(reader.language, N_TRAIN, 0)[0]
    others = islice(stories(reader.language, "validation"), N_TEST)
    train, test = (
        moments_of(some, tokenizer, reader, length, moment) for some in (learned, others)
    )
    return measure_probes(inspection.model, train, test, report)


def probes_of(inspection: Inspection) -> Blocks | None:
    """Returns the probes of all facts; None where no built-in world was learned."""
    reader = reader_of(inspection)
    if reader is None:
        return None
    report = inspection.report
    first, _ = fitted(inspection, reader, "event", lambda done, total: report(done, 2 * total))
    second, _ = fitted(
        inspection, reader, "question", lambda done, total: report(total + done, 2 * total)
    )
    rows, asked = first.rows, second.rows
    depths = [f"x{layer}" for layer in range(len(rows[0].layers))]
    return Blocks(
        sentences=sentences_of(rows, asked),
        maps=[
            Map(name, [row.fact for row in some], depths, [row.layers for row in some])
            for name, some in (("probes", rows), ("probes_question", asked))
        ],
        tables=[Table("probes", COLUMNS, [cells_of(row) for row in rows])],
    )


def cells_of(row: FactRow) -> list[Cell]:
    """Returns a fact as a row of the table."""
    hard = row.hard
    on_hard = [hard.probe, hard.untrained, hard.majority] if hard else [None, None, None]
    return [
        row.fact, row.layers[row.best], f"x{row.best}", row.untrained, row.shuffled, row.majority,
        row.named_last, *on_hard,
    ]  # fmt: skip


def sentences_of(rows: list[FactRow], asked: list[FactRow]) -> list[Spoken]:
    """Returns the findings in words."""
    first = next(row for row in rows if row.fact == PLACE_OF[0])
    probe = first.layers[first.best]
    more = 100 * (probe - first.untrained)
    found = [said(PLACE, probe=probe, more=more, asked=max(asked[0].layers))]
    if first.hard and first.hard.probe is not None:
        found.append(said(HARD, hard=first.hard.probe, majority=first.hard.majority))
    for row in rows:
        if row.deceived and row.deceived.probe is not None:
            found.append(
                said(
                    DECEIVED,
                    person=row.fact.removeprefix("belief of "),
                    belief=row.deceived.probe,
                    truth=row.deceived.says_truth,
                    n=row.deceived.n,
                )
            )
    return found


def steering_of(inspection: Inspection) -> Blocks | None:
    """Returns how often a push along the probe's direction changes the answer."""
    reader, model = reader_of(inspection), inspection.model
    if reader is None:
        return None
    _, probes = fitted(inspection, reader, "question", inspection.report)
    others = stories(reader.language, "validation", seed=1)
    cases = cases_of(others, inspection.tokenizer, reader, model.config.context_length)
    rows = [row for layer in range(len(probes)) for row in steer(model, probes, cases, layer)]
    columns = ["layer", "alpha", "target", "own", "random_target", "random_own"]
    cells: list[list[Cell]] = [
        [f"x{row.layer}", row.alpha, row.target, row.own, row.random_target, row.random_own]
        for row in rows
    ]
    return Blocks(tables=[Table("steering", columns, cells)])


PROBES = View(probes_of, show_blocks, is_default=False)
STEERING = View(steering_of, show_blocks, is_default=False)
