"""The result as a picture: rates as bars with their ranges, or cost against size.

Previous: report.py.  Next: ../main.py.
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from benchmarks.report import format_number
from benchmarks.result import Result
from benchmarks.scaling import Series
from run_directory.files import write_whole

PICTURE_FILE = "result.png"
OURS, PEERS, LIMIT, OPERATIONS = "#1f4e8c", "#9db7d5", "#c0392b", "#555555"


def draw_bars(folder: Path, result: Result) -> Path:
    """Draws median rates, lines from the slowest to the fastest round, and a tick at each limit.

    Returns the path of the picture.
    """
    rows = [row for row in result.rows if row.rate]
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(rows)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for position, row in enumerate(rows):
        assert row.rate
        median, low, high = row.rate.median, row.rate.low, row.rate.high
        color = OURS if row.name.startswith("ours") else PEERS
        axes.barh(position, median, color=color, height=0.65)
        axes.plot([low, high], [position, position], color="black", linewidth=1)
        if row.limit:
            axes.plot([row.limit] * 2, [position - 0.4, position + 0.4], color=LIMIT, linewidth=1.5)
        axes.text(high, position, f"  {format_number(median)}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(result.unit)
    axes.set_title(f"{result.target}: {result.model}", fontsize=8, loc="left", wrap=True)
    limit_note = "; red: the machine's limit" if any(row.limit for row in rows) else ""
    date = result.machine.date[:10]
    figure.supxlabel(f"{result.machine.cpu}, {date}; medians and ranges{limit_note}", fontsize=7)
    return save(folder, figure)


def draw_scaling(folder: Path, series: list[Series], title: str) -> Path:
    """Draws seconds per step with the growth of the operations, and below it peak memory.

    Returns the path of the picture.
    """
    figure = Figure(figsize=(3.2 * len(series), 6), dpi=120, layout="constrained")
    panels = figure.subplots(2, len(series), squeeze=False)
    for one, seconds_axes, memory_axes in zip(series, panels[0], panels[1], strict=True):
        predicted = [one.seconds[0] * cost / one.operations[0] for cost in one.operations]
        seconds_axes.loglog(one.x, one.seconds, "o-", color=OURS, label="measured")
        seconds_axes.loglog(
            one.x, predicted, color=OPERATIONS, linewidth=0.8, label="growth of operations"
        )
        memory_axes.loglog(one.x, [n / 1e9 for n in one.memory], "o-", color=OURS)
        for axes in (seconds_axes, memory_axes):
            axes.set_xticks(one.x, [f"{value:g}" for value in one.x])
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(FormatStrFormatter("%.3g"))
            axes.yaxis.set_minor_formatter(FormatStrFormatter("%.3g"))
            axes.tick_params(axis="y", which="minor", labelsize=7)
            axes.grid(alpha=0.25, which="both")
            axes.set_xlabel(one.name)
    panels[0][0].set_ylabel("seconds per step")
    panels[1][0].set_ylabel("peak memory, GB")
    panels[0][0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return save(folder, figure)


def save(folder: Path, figure: Figure) -> Path:
    """Writes result.png, whole or not at all, and returns its path."""
    path = folder / PICTURE_FILE
    write_whole(path, lambda part: figure.savefig(part, format="png"))
    return path
