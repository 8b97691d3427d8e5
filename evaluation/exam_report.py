"""The result of an exam for people: a table and a picture, of one run or of several.

Previous: report.py.  Next: ../main.py.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from evaluation.report import RULE
from evaluation.result import RESULTS_FOLDER, Figures, Result
from run_directory.files import write_whole
from run_directory.printable import printable
from training.progress import show_table

SHARES = {  # figures of the whole exam that the table has below the accuracies
    "ended": "ended by itself",
    "refusal_precision": "refusals that are right",
    "refusal_recall": "refusals that are due",
}
COLORS = ("#1f4e8c", "#e08a1e", "#2e7d32", "#7b4fa3", "#555555", "#00838f")  # of runs
RULE_COLOR = "#c0392b"


def report_exam(console: Console, folder: Path, results: list[Result]) -> None:
    """Prints the table of one or more runs, and draws the picture into the first one's folder."""
    heading, *rows = exam_table(results)
    console.print()
    show_table(console, heading, rows, justify="right")
    console.print()
    if len({result.measure.about for result in results}) > 1:
        for name, result in zip(names_of(results), results, strict=True):
            console.print(f"note      {name} took {printable(result.measure.about)}")
    console.print(f"picture   {draw_exam(folder, results)}")


def parts_of(figures: Figures) -> dict[str, Figures]:
    """Returns the figures of each part: of "kind/KIND", of "set/SET", and of "", the whole."""
    parts: dict[str, Figures] = {}
    for name, value in figures.items():
        part, _, figure = name.rpartition("/")
        parts.setdefault(part, {})[figure] = value
    return parts


def rows_of(results: Sequence[Result]) -> dict[str, list[Figures]]:
    """Returns the figures of each run for each part: the kinds, the whole, laws, sets.

    A part that a run lacks has no figures there.
    """
    of_runs = [parts_of(result.figures) for result in results]
    names = list(dict.fromkeys(name for parts in of_runs for name in parts))
    names.sort(key=lambda name: ("kind", "", "law", "set").index(name.partition("/")[0]))
    return {name: [parts.get(name, {}) for parts in of_runs] for name in names}


def label_of(part: str) -> str:
    """Returns a part's name in the table and in the picture."""
    return printable(part.partition("/")[2]) or "all"


def best_rule(of_runs: Sequence[Figures]) -> tuple[str, float] | None:
    """Returns the name and the accuracy of the best simple rule, None where there is none."""
    rules = [
        (name.removeprefix(RULE), value)
        for figures in of_runs
        for name, value in figures.items()
        if name.startswith(RULE) and value is not None
    ]
    return max(rules, key=lambda rule: rule[1], default=None)


def percent(value: float | None) -> str:
    """Returns a share in percent with one decimal."""
    return "-" if value is None else f"{100 * value:.1f}"


def accuracy_cell(figures: Figures) -> str:
    """Returns an accuracy in percent with its interval."""
    if figures.get("accuracy") is None:
        return "-"
    low, high = percent(figures["accuracy_low"]), percent(figures["accuracy_high"])
    return f"{percent(figures['accuracy'])} ({low} to {high})"


def exam_table(results: Sequence[Result]) -> list[list[str]]:
    """Returns a heading and a row for each part; a column for each run, in percent."""
    parts, rows = rows_of(results), []
    with_rules = any(best_rule(of_runs) for of_runs in parts.values())
    for part, of_runs in parts.items():
        n_items = next(figures["items"] for figures in of_runs if "items" in figures)
        row = [label_of(part), f"{n_items:,}", *map(accuracy_cell, of_runs)]
        if with_rules:
            rule = best_rule(of_runs)
            row.append(f"{percent(rule[1])} {rule[0]}" if rule else "-")
        rows.append(row)
    for name, label in SHARES.items():
        if any(name in figures for figures in parts[""]):
            cells = [percent(figures.get(name)) for figures in parts[""]]
            rows.append([label, "", *cells, *[""] * with_rules])
    heading = ["right, in %", "questions", *names_of(results), *["best simple rule"] * with_rules]
    return [heading, *rows]


def names_of(results: Sequence[Result]) -> list[str]:
    """Returns the runs' names."""
    return [printable(result.origin.run) for result in results]


def draw_exam(folder: Path, results: Sequence[Result]) -> Path:
    """Writes folder/evaluation/NAME.png, a bar for each part and run, and returns its path."""
    from matplotlib.figure import Figure  # here, for most calls draw nothing: 0.3 s
    from matplotlib.patches import Patch

    parts, n_runs = rows_of(results), len(results)
    height, labels = 0.8 / n_runs, []
    figure = Figure(
        figsize=(8, 1.6 + len(parts) * (0.16 + 0.16 * n_runs)), dpi=120, layout="constrained"
    )
    axes = figure.subplots()
    for place, (part, of_runs) in enumerate(parts.items()):
        labels.append(label_of(part))
        for number, figures in enumerate(of_runs):
            value, low, high = (figures.get(f"accuracy{end}") for end in ("", "_low", "_high"))
            if value is None or low is None or high is None:
                continue
            y = place - 0.4 + height * (number + 0.5)
            axes.barh(y, 100 * value, height, color=COLORS[number % len(COLORS)])
            reach = [[100 * (value - low)], [100 * (high - value)]]
            axes.errorbar(100 * value, y, xerr=reach, color="black", linewidth=0.8, capsize=2)
            axes.text(102, y, percent(value), va="center", fontsize=7)
        if rule := best_rule(of_runs):
            axes.plot([100 * rule[1]] * 2, [place - 0.42, place + 0.42], color=RULE_COLOR)
    heads = [part.partition("/")[0] for part in parts]
    for place in range(1, len(heads)):
        if heads[place] != heads[place - 1]:
            axes.axhline(place - 0.5, color="#999999", linewidth=0.5)
    axes.set_yticks(range(len(labels)), labels, parse_math=False, fontsize=8)
    axes.set(xlim=(0, 110), ylim=(len(labels) - 0.5, -0.5))
    axes.set_xlabel("right answers in %, with 95% intervals; red: best simple rule")
    handles = [Patch(color=COLORS[number % len(COLORS)]) for number in range(n_runs)]
    legend = figure.legend(handles, names_of(results), loc="outside lower left", fontsize=7)
    for text in legend.get_texts():
        text.set_parse_math(False)
    about = "; ".join(dict.fromkeys(printable(result.measure.about) for result in results))
    axes.set_title(about, fontsize=8, loc="left", wrap=True, parse_math=False)
    path = folder / RESULTS_FOLDER / f"{results[0].measure.name}.png"
    write_whole(path, lambda part: figure.savefig(part, format="png"))
    return path
