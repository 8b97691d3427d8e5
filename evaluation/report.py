"""Results for people: lines for one model; a table and a picture for several.

Previous: result.py.  Next: exam_report.py.
"""

from pathlib import Path

from rich.console import Console

from evaluation.result import RESULTS_FOLDER, Figures, Result
from run_directory.files import write_whole
from run_directory.printable import printable

PICTURED = {  # measure -> the figure that the picture shows, and its label
    "text": ("bits_per_byte", "bits per byte; lower is better"),
    "lambada": ("acc", "last words predicted; higher is better"),
    "hellaswag": ("acc_norm", "endings chosen, by length; higher is better"),
}
RULE = "baseline "  # begins the name of a simple rule's accuracy in an exam
BAR_COLOR, FLOOR_COLOR = "#1f4e8c", "#c0392b"


def report_result(console: Console, result: Result, folder: Path) -> None:
    """Prints the figures of one model, and writes them into its run directory."""
    for line in summary_lines(result):
        console.print(line)
    console.print(f"written   {result.write(folder)}")


def summary_lines(result: Result) -> list[str]:
    """Returns the figures of one model, a line for each."""
    figures = result.figures
    if result.measure.what == "text":
        return text_lines(figures)
    if result.measure.what == "exam":  # its parts are in the table
        figures = {name: value for name, value in figures.items() if not in_table(name)}
    values = {name: value for name, value in figures.items() if value is not None}
    width = max(15, *map(len, values))
    lines = [f"{name:{width}} {format_figure(value)}" for name, value in values.items()]
    return [*lines, f"{'time':{width}} {result.seconds:.1f} s"]


def in_table(figure: str) -> bool:
    """Tells whether a figure of an exam is shown in its table only."""
    return "/" in figure or figure.startswith(RULE)


def text_lines(figures: Figures) -> list[str]:
    """Returns two lines: the size of the text, and the loss of the model on it."""
    loss, bits, floor = figures["loss"], figures["bits_per_byte"], figures["floor"]
    assert loss is not None and bits is not None
    above = f"; {100 * (bits / floor - 1):.1f}% above the floor {floor:.4f}" if floor else ""
    perplexity = format_figure(figures["perplexity"])
    return [
        f"read      {figures['tokens']:,} tokens of {figures['bytes']:,} bytes, "
        f"in {figures['windows']:,} windows",
        f"score     {loss:.4f} nats per token, perplexity {perplexity}, "
        f"{bits:.4f} bits per byte{above}",
    ]


def format_figure(value: float | None) -> str:
    """Returns a figure with four decimals, or without any for counts and large numbers."""
    if value is None:
        return "-"
    if isinstance(value, int) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}"


def comparison_table(results: list[Result]) -> list[list[str]]:
    """Returns a heading and a row for each model."""
    what = results[0].measure.what
    figures = {"text": ["loss", "perplexity", "bits_per_byte"]}.get(what)
    figures = figures or [name for name in results[0].figures if not name.endswith("stderr")]
    heading = ["run", "parameters", "context", "vocabulary"]
    heading += ["bytes per token"] if what == "text" else []
    rows = []
    for result in results:
        origin, values = result.origin, result.figures
        sizes = (origin.parameters, origin.context_length, origin.vocab_size)
        row = [origin.run, *(f"{size:,}" for size in sizes)]
        if what == "text":
            row.append(f"{(values['bytes'] or 0) / (values['tokens'] or 1):.2f}")
        rows.append([*row, *(format_figure(values[name]) for name in figures)])
    return [[*heading, *(name.replace("_", " ") for name in figures)], *rows]


def draw_comparison(folder: Path, results: list[Result]) -> Path:
    """Writes folder/evaluation/NAME.png with a bar for each model, and returns its path."""
    from matplotlib.figure import Figure  # here, for most calls draw nothing: 0.3 s

    name, label = PICTURED[results[0].measure.what]
    figure = Figure(figsize=(8, 1.4 + 0.45 * len(results)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for position, result in enumerate(results):
        value = result.figures[name] or 0.0
        axes.barh(position, value, color=BAR_COLOR, height=0.65)
        axes.text(value, position, f"  {value:.4f}", va="center", fontsize=8)
    floor = results[0].figures.get("floor")
    if floor:
        axes.axvline(floor, color=FLOOR_COLOR, linestyle="--", linewidth=1)
        label += f"; red: the floor {floor:.4f}"
    names = [printable(result.origin.run) for result in results]
    axes.set_yticks(range(len(results)), names, parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(label)
    about = printable(results[0].measure.about)
    axes.set_title(about, fontsize=8, loc="left", wrap=True, parse_math=False)
    path = folder / RESULTS_FOLDER / f"{results[0].measure.name}.png"
    write_whole(path, lambda part: figure.savefig(part, format="png"))
    return path
