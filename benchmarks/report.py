"""The result as a table: on the screen, and in Markdown for a page."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.growth import Series
from benchmarks.result import Result, Row, Spread
from benchmarks.turns import Measured
from run_directory.files import write_whole

TABLE_FILE = "result.md"
SPARE = ("warm-up", "GFLOP/s", "range", "batches/s", "peak GB")
Cells = list[list[str]]  # the first row has the headings


def cells(result: Result) -> Cells:
    """Rows that anyone can read; a column that would be empty is left out."""
    heading = ["", result.unit, "range", "ours / it", "batches/s", "GFLOP/s",
               "share of limit", "peak GB", "warm-up"]  # fmt: skip
    lines = [heading, *(line(row) for row in result.rows)]
    used = [i for i in range(len(heading)) if i == 0 or any(cells[i] for cells in lines[1:])]
    return [[cells[i] for i in used] for cells in lines]


def line(row: Row) -> list[str]:
    """One contender; all that is not known is empty."""
    if row.rate is None:
        return [row.name, "died", *[""] * 7]
    share = f"{100 * row.share:.0f}%" if row.share is not None else ""
    return [
        row.name + " (died)" * (row.died is not None),
        figure(row.rate.median),
        f"{figure(row.rate.low)} to {figure(row.rate.high)}",
        ahead(row.ahead),
        figure(row.batches) if row.batches else "",
        f"{row.operations / 1e9:.3g}" if row.operations else "",
        f"{share} of {row.precision}" if share and row.operations else share,
        f"{row.memory / 1e9:.2f}" if row.memory else "",
        f"{row.build_seconds + row.warmup_seconds:.1f} s",
    ]


def ahead(spread: Spread | None) -> str:
    """1.52 (1.49 to 1.55): the median of the rounds' ratios, and their ends."""
    if spread is None:
        return ""
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def figure(value: float) -> str:
    """Three digits at least, and none that says nothing."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def growth_cells(series: list[Series]) -> Cells:
    """How fast time grows with each size, beside the operations.

    A fixed cost, such as the optimizer's, flattens the small end; the last two points tell most.
    """
    heading = ["grows", "from", "to", "slope of time", "of operations", "last two: time",
               "operations", "peak memory"]  # fmt: skip
    lines = [heading]
    for one in series:
        slopes = one.slopes()
        seen = [f"{value:.2f}" for value in slopes] if slopes else ["", ""]
        for cost in (one.seconds, one.operations):
            seen.append(f"x {cost[-1] / cost[-2]:.2f}" if len(cost) > 1 else "")
        memory = f"{one.memory[0] / 1e9:.2f} to {one.memory[-1] / 1e9:.2f} GB"
        lines.append([one.name, f"{one.x[0]:g}", f"{one.x[-1]:g}", *seen, memory])
    return lines


def show(console: Console, table: Cells) -> None:
    """A table on a terminal, without some columns where it is narrow; elsewhere plain lines."""
    if console.is_terminal:
        table = fitted(table, console.width)
        drawn = Table()
        for i, name in enumerate(table[0]):
            drawn.add_column(name, justify="right" if i else "left")
        for row in table[1:]:
            drawn.add_row(*row)
        console.print(drawn)
        return
    widths = widths_of(table)
    for row in table:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        console.print("  ".join([first, *rest]).rstrip())


def fitted(table: Cells, width: int) -> Cells:
    """The table without the columns that are missed least; result.md has them all."""
    for name in SPARE:
        if sum(widths_of(table)) + 3 * len(table[0]) + 1 > width and name in table[0]:
            i = table[0].index(name)
            table = [[*row[:i], *row[i + 1 :]] for row in table]
    return table


def widths_of(table: Cells) -> list[int]:
    return [max(map(len, column)) for column in zip(*table, strict=True)]


def limit_lines(result: Result) -> list[str]:
    """The best that the machine did, by kind."""
    if result.limits is None:
        return []
    lines = []
    for limit in result.limits.measured:
        unit = "GB/s" if limit.what == "memory" else "GFLOP/s"
        spread = Spread.of([rate / 1e9 for rate in limit.rates])
        assert spread
        said = f"{spread.median:8.4g} {unit} ({spread.low:.4g} to {spread.high:.4g})"
        lines.append(f"limit     {limit.what:6} {said}  {limit.how}")
    return lines


def deaths(measured: list[Measured]) -> list[str]:
    """Who fell out, with the last words."""
    return [f"{seen.job.name} died: {seen.died}" for seen in measured if seen.died is not None]


def share_lines(measured: list[Measured]) -> list[str]:
    """Where the time went, by kind of operator."""
    return [
        f"{seen.job.name}: "
        + ", ".join(f"{name} {100 * share:.0f}%" for name, share in seen.profile.shares.items())
        for seen in measured
        if seen.profile
    ]


def write_page(folder: Path, result: Result, tables: list[Cells]) -> None:
    """result.md: what a page about speed can take over as it is."""
    about = [*result.machine.lines(), f"model     {result.model}", *limit_lines(result)]
    parts = ["```", result.command, "", *about, "```", ""]
    parts += [f"* {said}" for said in [*result.said, *deaths(result.measured)]]
    for table in tables:
        heading, *rows = ("| " + " | ".join(row) + " |" for row in table)
        rule = "|" + " --- |" * len(table[0])
        parts += ["", heading, rule, *rows]
    text = "\n".join(parts) + "\n"
    write_whole(folder / TABLE_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def write_profiles(folder: Path, measured: list[Measured]) -> None:
    """One table of operators for each contender."""
    for seen in measured:
        if seen.profile:
            table, slug = seen.profile.table, "-".join(seen.job.name.replace(",", "").split())
            write_whole(
                folder / f"profile-{slug}.txt",
                lambda path, table=table: path.write_text(table, encoding="utf-8"),
            )
