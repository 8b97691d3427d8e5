"""What a person sees of a command: a progress bar, tables, metrics.jsonl and loss.png.

Previous: background.py.  Next: units.py.
"""

import errno
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cfg_gpt2 import require
from run_directory.config_file import METRICS_FILE
from run_directory.files import sync, write_whole
from run_directory.json_file import parse_json, shortened
from run_directory.lock import require_in_place
from run_directory.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE_FILE = "loss.png"
TITLES = {  # of the small curves, where the name of a metric does not say its unit
    "kl": "KL from the start,\nbits per answer",
    "possible": "share of\npossible stories",
    "kl_to_world": "KL to the world,\nbits per story",
}
MAX_METRIC = 1e100  # fp32 ends at 3e38
QUIET_SECONDS = 15.0  # without a terminal a line of progress is due at most this often

Metrics = dict[str, float]


class CommandConsole(Console):
    """Where a command prints what a person reads, with visible escapes for control characters."""

    outlives_reader = False  # whether printing raises no error once nobody can read it any more
    lost: OSError | None = None  # that error

    def render_str(self, text: str, **layout: object) -> Text:
        """Makes a rich text of a plain one, as rich does for each that is printed."""
        return super().render_str(printable(text), **layout)  # type: ignore[arg-type]

    def on_broken_pipe(self) -> None:
        """Raises the BrokenPipeError again, where rich would end the process."""
        raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Writes what was printed; rich calls it at the end of each call of print()."""
        try:
            super().__exit__(kind, error, traceback)
        except OSError as lost:
            self.quiet = True
            if lost.errno == errno.EIO:  # the terminal is gone, and the process was let live on
                return
            lost.filename = lost.filename or "the standard output"
            self.lost = lost
            if not self.outlives_reader:
                raise


def new_console(*, quiet: bool = False, stderr: bool = False) -> CommandConsole:
    """Returns a console that wraps lines on a terminal, but not in a file or a pipe."""
    wraps = (sys.stderr if stderr else sys.stdout).isatty()
    return CommandConsole(
        soft_wrap=not wraps, highlight=False, markup=False, emoji=False, quiet=quiet, stderr=stderr
    )


class Bar:
    """A bar on a terminal; elsewhere a plain line now and then. Use as a context manager.

    With a total of 0, work whose end is unknown, it shows the time that has gone by.
    """

    def __init__(self, console: Console, what: str, total: int, done: int = 0) -> None:
        self.console = console
        self.what, self.total = what, total
        time_left = [
            TextColumn("{task.percentage:3.0f}%"),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        ]
        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            *(time_left if total else [TimeElapsedColumn()]),
        ]
        self.progress = Progress(*columns, console=console)
        self.task = self.progress.add_task(what, total=total or None, completed=done, text="")
        self.first, self.started = done, time.monotonic()
        self.last_line = self.started

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.progress.stop()

    def move(self, done: int, text: str = "") -> None:
        """Shows that `done` of `total` is done, with a text beside it."""
        self.progress.update(self.task, completed=done, text=printable(text))
        now = time.monotonic()
        if not self.console.is_terminal and now - self.last_line > QUIET_SECONDS:
            self.last_line = now
            if not self.total:
                self.console.print(f"{self.what}  {clock(now - self.started)}")
                return
            left = (now - self.started) * (self.total - done) / max(1, done - self.first)
            percentage = 100 * done / self.total
            self.console.print(f"{self.what} {percentage:.0f}%  {text}  {clock(left)} left")


def clock(seconds: float) -> str:
    """Returns a time as minutes and seconds, with hours where there are any: 125.0 -> "2:05"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def show_table(
    console: Console,
    heading: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    justify: Literal["left", "right"] = "left",
) -> None:
    """Prints a table with a frame on a terminal, and lines of padded cells in a file or a pipe.

    Args:
        console: where to print.
        heading: the name of each column; the plain lines leave out a heading of empty names.
        rows: the cells of each row, as many as there are columns.
        justify: the side on which all columns but the first have their cells; the first has
            them on the left. "right" suits numbers.
    """
    if console.is_terminal:
        table = Table()
        for name in heading:
            side = justify if table.columns else "left"
            table.add_column(name, justify=side, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    lines = [heading, *rows] if any(heading) else list(rows)
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    pad = str.rjust if justify == "right" else str.ljust
    for first, *rest in lines:
        cells = [pad(cell, width) for cell, width in zip(rest, widths[1:], strict=True)]
        console.print("  ".join([first.ljust(widths[0]), *cells]).rstrip())


class MetricsLog:
    """metrics.jsonl: one line per step, written as soon as the step is done.

    With writes=False nothing is written: of several processes only one writes.
    """

    def __init__(self, run_dir: Path, *, writes: bool = True) -> None:
        self.path, self.writes = run_dir / METRICS_FILE, writes

    def append(self, metrics: Metrics) -> None:
        """Adds a line. Values that are not finite are left out: JSON has no word for them."""
        if not self.writes:
            return
        require_in_place(self.path)
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(finite) + "\n")
        except OSError as error:
            error.filename = error.filename or str(
                self.path
            )  # OSError of a full disk has no filename
            raise

    def sync(self) -> None:
        """Waits until the lines are on the disk."""
        if self.path.exists():
            sync(self.path)

    def read(self) -> list[Metrics]:
        """Returns the metrics of all lines, without a last one that a crash cut short.

        Raises ValueError, with the number of the line, for one that holds no metrics.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]
        return [
            parse_metrics(line, f"{self.path}, line {number},")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]

    def keep_until(self, step: int) -> None:
        """Removes the lines after `step`, which a resumed run is going to write again."""
        if not self.writes:
            return
        self._write([line for line in self.read() if line["step"] <= step])

    def add_to(self, step: int, metrics: Metrics) -> None:
        """Adds metrics to the line of a step that was written before."""
        if not self.writes:
            return
        self._write([line | metrics if line["step"] == step else line for line in self.read()])

    def _write(self, lines: Sequence[Metrics]) -> None:
        """Writes the file again, whole or not at all, unless it has these lines already."""
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        if not self.path.exists() or self.path.read_bytes() != text:
            write_whole(self.path, lambda part: part.write_bytes(text))


def parse_metrics(line: bytes, where: str) -> Metrics:
    """Returns the metrics of a line; `where` names it in errors.

    Raises ValueError unless it has a step, a whole number, and nothing but numbers.
    """
    try:
        metrics = parse_json(line, where)
        if not isinstance(metrics, dict):
            raise ValueError(f"{where} is not a JSON object")
        for name, value in metrics.items():
            is_number = isinstance(value, int | float) and abs(value) <= MAX_METRIC
            require(is_number, f"{where} has no number for {shortened(name)}")
        step = metrics.get("step")
        require(type(step) is int and step >= 0, f"{where} has no step, a whole number")
    except ValueError as error:
        raise ValueError(f"{error}; remove that line, or copy the file again") from None
    return metrics


def draw_losses(run_dir: Path, title: str) -> Path:
    """Draws loss.png from metrics.jsonl and returns its path.

    It has the training and the validation curve in bits per byte, or their losses where the data
    is no text, a ring around the best validation loss where that is not the last one, and the
    floor where it is known. What else is measured has small curves of its own below.
    """
    # imported here, which saves commands that draw nothing the time; without pyplot, which is for
    # one thread only
    from matplotlib.figure import Figure

    lines = MetricsLog(run_dir).read()
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = draw_further(figure, lines)
    is_text = any("val_bits_per_byte" in m for m in lines)
    unit = "bits_per_byte" if is_text else "loss"
    train = [(m["step"], m[f"train_{unit}"]) for m in lines if f"train_{unit}" in m]
    validation = [(m["step"], m[f"val_{unit}"]) for m in lines if f"val_{unit}" in m]
    floor = next((m["floor_bits_per_byte"] for m in lines if "floor_bits_per_byte" in m), None)
    if train:
        axes.plot(*zip(*train, strict=True), color="#9db7d5", linewidth=1, label="training")
    if validation:
        last = validation[-1][1]
        label = f"validation, {last:.4f} at the end"
        axes.plot(*zip(*validation, strict=True), "o:", color="#1f4e8c", markersize=5, label=label)
        step, best = min(validation, key=lambda point: point[1])
        if best < last:
            label = f"best validation, {best:.4f} at step {step:.0f}"
            axes.plot(step, best, "o", color="#2e7d32", markersize=12, fillstyle="none",
                      markeredgewidth=2, label=label)  # fmt: skip
    if floor is not None:
        label = f"floor, {floor:.4f}: no model can do better"
        axes.axhline(floor, color="#c0392b", linestyle="--", label=label)
    axes.set_title(printable(title), parse_math=False)
    axes.set(xlabel="optimizer steps", ylabel=unit.replace("_", " "))
    if is_text:
        use_log_scale(axes)
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False)
    path = run_dir / PICTURE_FILE
    write_whole(path, lambda part: figure.savefig(part, format="png"))
    return path


def use_log_scale(axes: "Axes") -> None:
    """Makes the vertical axis logarithmic, with as many labels as there is room for."""
    from matplotlib.ticker import AutoLocator, FormatStrFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    labelled = (1, 1.5, 2, 3, 5, 7) if high < 100 * low else (1, 2, 5)  # of each power of ten
    locator = LogLocator(subs=labelled) if high > 4 * low else AutoLocator()
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(FormatStrFormatter("%.3g"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_further(figure: "Figure", lines: Sequence[Metrics]) -> "Axes":
    """Draws what is measured besides the loss, and returns the place for the loss above it."""
    measured = dict.fromkeys(name for m in lines for name in m if name.startswith("val_"))
    names = [name.removeprefix("val_") for name in measured]
    names = [name for name in names if name not in ("loss", "bits_per_byte")]
    if not names:
        return figure.subplots()
    figure.set_figheight(6.5)
    grid = figure.add_gridspec(2, len(names), height_ratios=[2, 1])
    axes = figure.add_subplot(grid[0, :])
    for place, name in enumerate(names):
        draw_metric(figure.add_subplot(grid[1, place], sharex=axes), lines, name)
    return axes


def draw_metric(axes: "Axes", lines: Sequence[Metrics], name: str) -> None:
    """Draws a further metric of the training batches and of the validation data."""
    for key, color, marker in ((name, "#9db7d5", ""), (f"val_{name}", "#1f4e8c", ".")):
        points = [(m["step"], m[key]) for m in lines if key in m]
        if points:
            axes.plot(*zip(*points, strict=True), linewidth=1, color=color, marker=marker)
    axes.set_title(TITLES.get(name, name.replace("_", " ")), fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
