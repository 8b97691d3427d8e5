"""What a person sees: lines for one model; for several a table and a picture.

Previous: result.py.  Next: command.py.
"""

from pathlib import Path

import matplotlib
from rich.console import Console
from rich.table import Table

from evaluation.result import FOLDER, Figures, Result
from run_directory.files import write_whole

CHOSEN = {  # the figure that the picture draws, and what it is called
    "text": ("bits_per_byte", "bits per byte; lower is better"),
    "lambada": ("acc", "last words guessed; higher is better"),
    "hellaswag": ("acc_norm", "endings chosen, by length; higher is better"),
}
COLOR, LIMIT = "#1f4e8c", "#c0392b"


def describe(result: Result) -> list[str]:
    """The figures of one model."""
    figures = result.figures
    if result.measure.what == "text":
        return describe_text(figures)
    lines = [f"{name:15} {shown(value)}" for name, value in figures.items() if value is not None]
    return [*lines, f"{'time':15} {result.seconds:.1f} s"]


def describe_text(figures: Figures) -> list[str]:
    """How much was read, and what the model paid."""
    loss, bits, floor = figures["loss"], figures["bits_per_byte"], figures["floor"]
    assert loss is not None and bits is not None
    above = f"; {100 * (bits / floor - 1):.1f}% above the floor {floor:.4f}" if floor else ""
    perplexity = shown(figures["perplexity"])
    return [
        f"read      {figures['tokens']:,} tokens of {figures['bytes']:,} bytes, "
        f"in {figures['windows']:,} windows",
        f"score     {loss:.4f} nats a token, perplexity {perplexity}, "
        f"{bits:.4f} bits per byte{above}",
    ]


def shown(value: float | None) -> str:
    """Four digits at least; counts in full."""
    if value is None:
        return "-"
    if isinstance(value, int) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}"


def table_of(results: list[Result]) -> list[list[str]]:
    """A row a model, under a heading."""
    what = results[0].measure.what
    figures = {"text": ["loss", "perplexity", "bits_per_byte"]}.get(what)
    figures = figures or [name for name in results[0].figures if not name.endswith("stderr")]
    heading = ["run", "parameters", "context", "vocabulary"]
    heading += ["bytes a token"] if what == "text" else []
    rows = []
    for result in results:
        origin, found = result.origin, result.figures
        sizes = (origin.parameters, origin.context_length, origin.vocab_size)
        row = [origin.run, *(f"{size:,}" for size in sizes)]
        if what == "text":
            row.append(f"{(found['bytes'] or 0) / (found['tokens'] or 1):.2f}")
        rows.append([*row, *(shown(found[name]) for name in figures)])
    return [[*heading, *(name.replace("_", " ") for name in figures)], *rows]


def show(console: Console, table: list[list[str]]) -> None:
    """A table on a terminal; elsewhere plain lines."""
    if console.is_terminal:
        drawn = Table()
        for i, name in enumerate(table[0]):
            drawn.add_column(name, justify="right" if i else "left", overflow="fold")
        for row in table[1:]:
            drawn.add_row(*row)
        console.print(drawn)
        return
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        console.print("  ".join([row[0].ljust(len(first)), *rest]).rstrip())


def draw(folder: Path, results: list[Result]) -> Path:
    """folder/evaluation/NAME.png: a bar for each model."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    name, label = CHOSEN[results[0].measure.what]
    size = (8, 1.4 + 0.45 * len(results))
    figure, axes = pyplot.subplots(figsize=size, dpi=120, layout="constrained")
    for place, result in enumerate(results):
        value = result.figures[name] or 0.0
        axes.barh(place, value, color=COLOR, height=0.65)
        axes.text(value, place, f"  {value:.4f}", va="center", fontsize=8)
    floor = results[0].figures.get("floor")
    if floor:
        axes.axvline(floor, color=LIMIT, linestyle="--", linewidth=1)
        label += f"; red: the floor {floor:.4f}"
    axes.set_yticks(range(len(results)), [result.origin.run for result in results])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(label)
    axes.set_title(results[0].measure.about, fontsize=8, loc="left", wrap=True)
    path = folder / FOLDER / f"{results[0].measure.name}.png"
    write_whole(path, lambda part: figure.savefig(part, format="png"))
    pyplot.close(figure)
    return path
