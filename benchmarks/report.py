"""The result as a table: on the screen, and in Markdown.

Previous: scaling.py.  Next: pictures.py.
"""

from pathlib import Path

from rich.console import Console

from benchmarks.interleaved import Measurement
from benchmarks.result import MedianAndRange, Result, Row
from benchmarks.scaling import Series
from run_directory.files import write_whole
from training.progress import show_table

TABLE_FILE = "result.md"
OPTIONAL_COLUMNS = ("warm-up", "GFLOP/s", "range", "batches/s", "peak GB")
Table = list[list[str]]  # the first row has the headings


def result_table(result: Result) -> Table:
    """Returns a row for each candidate; a column that would be empty is left out."""
    heading = ["", result.unit, "range", "speed ratio", "batches/s", "GFLOP/s",
               "share of limit", "peak GB", "warm-up"]  # fmt: skip
    lines = [heading, *map(row_cells, result.rows)]
    used = [i for i in range(len(heading)) if i == 0 or any(cells[i] for cells in lines[1:])]
    return [[cells[i] for i in used] for cells in lines]


def row_cells(row: Row) -> list[str]:
    """Returns the cells of one candidate; a cell whose figure is unknown is empty."""
    if row.rate is None:
        return [row.name, "failed", *[""] * 7]
    share = f"{100 * row.share:.0f}%" if row.share is not None else ""
    return [
        row.name + " (failed)" * (row.error is not None),
        format_number(row.rate.median),
        f"{format_number(row.rate.low)} to {format_number(row.rate.high)}",
        format_speedup(row.speedup),
        format_number(row.batches) if row.batches else "",
        f"{row.operations / 1e9:.3g}" if row.operations else "",
        f"{share} of {row.precision}" if share and row.operations else share,
        f"{row.memory / 1e9:.2f}" if row.memory else "",
        f"{row.build_seconds + row.warmup_seconds:.1f} s",
    ]


def format_speedup(ratio: MedianAndRange | None) -> str:
    """Returns the median of the paired ratios and their range, such as 1.52 (1.49 to 1.55)."""
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else ""


def format_number(value: float) -> str:
    """Returns a number with three significant digits, or as an integer from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def scaling_table(series: list[Series]) -> Table:
    """Returns a row for each series: how time and operations grow with the size.

    A fixed cost, such as the optimizer's, flattens the small end; the last two points show the
    growth best.
    """
    heading = ["grows", "from", "to", "slope of time", "of operations", "last two: time",
               "operations", "peak memory"]  # fmt: skip
    lines = [heading]
    for one in series:
        slopes = one.slopes()
        cells = [f"{value:.2f}" for value in slopes] if slopes else ["", ""]
        for cost in (one.seconds, one.operations):
            cells.append(f"x {cost[-1] / cost[-2]:.2f}" if len(cost) > 1 else "")
        memory = f"{one.memory[0] / 1e9:.2f} to {one.memory[-1] / 1e9:.2f} GB"
        lines.append([one.name, f"{one.x[0]:g}", f"{one.x[-1]:g}", *cells, memory])
    return lines


def show(console: Console, table: Table) -> None:
    """Prints a table, on a narrow terminal without some columns."""
    heading, *rows = fit_columns(table, console.width) if console.is_terminal else table
    show_table(console, heading, rows, justify="right")


def fit_columns(table: Table, width: int) -> Table:
    """Returns a table without the columns that do not fit; result.md has them all."""
    for name in OPTIONAL_COLUMNS:
        if sum(column_widths(table)) + 3 * len(table[0]) + 1 > width and name in table[0]:
            i = table[0].index(name)
            table = [[*row[:i], *row[i + 1 :]] for row in table]
    return table


def column_widths(table: Table) -> list[int]:
    """Returns the width of each column in characters."""
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def roofline_lines(result: Result) -> list[str]:
    """Returns a line for each matmul and memory operation of the roofline."""
    if result.roofline is None:
        return []
    lines = []
    for peak in result.roofline.measured:
        unit = "GB/s" if peak.what == "memory" else "GFLOP/s"
        rate = MedianAndRange.of([rate / 1e9 for rate in peak.rates])
        assert rate
        figures = f"{rate.median:8.4g} {unit} ({rate.low:.4g} to {rate.high:.4g})"
        lines.append(f"limit     {peak.what:6} {figures}  {peak.how}")
    return lines


def failures(measurements: list[Measurement]) -> list[str]:
    """Returns a line with the error message of each candidate that failed."""
    return [f"{one.job.name} failed: {one.error}" for one in measurements if one.error is not None]


def profile_lines(measurements: list[Measurement]) -> list[str]:
    """Returns the shares of time by kind of operator, a line for each profiled candidate."""
    return [
        f"{one.job.name}: "
        + ", ".join(f"{name} {100 * share:.0f}%" for name, share in one.profile.shares.items())
        for one in measurements
        if one.profile
    ]


def write_page(folder: Path, result: Result, tables: list[Table]) -> None:
    """Writes result.md: the command, the machine, the tables."""
    about = [*result.machine.lines(), f"model     {result.model}", *roofline_lines(result)]
    parts = ["```", result.command, "", *about, "```", ""]
    parts += [f"* {note}" for note in [*result.notes, *failures(result.measurements)]]
    for table in tables:
        heading, *rows = ("| " + " | ".join(row) + " |" for row in table)
        rule = "|" + " --- |" * len(table[0])
        parts += ["", heading, rule, *rows]
    text = "\n".join(parts) + "\n"
    write_whole(folder / TABLE_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def write_profiles(folder: Path, measurements: list[Measurement]) -> None:
    """Writes a file with the table of operators for each profiled candidate."""
    for one in measurements:
        if one.profile:
            table, slug = one.profile.table, "-".join(one.job.name.replace(",", "").split())
            write_whole(
                folder / f"profile-{slug}.txt",
                lambda path, table=table: path.write_text(table, encoding="utf-8"),
            )
