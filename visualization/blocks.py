"""Blocks: sentences, maps, tables and charts of a view that the page draws as they come.

Previous: twin.py.  Next: circuit_view.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from training.progress import show_table
from visualization.inspection import Inspection, Spoken

Cell = str | float | None


@dataclass(frozen=True)
class Map:
    """A grid of numbers, drawn as colours."""

    name: str
    rows: list[str]
    columns: list[str]
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Table:
    """A table of words and numbers."""

    name: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Line:
    """A line of a chart; None where it has no value."""

    name: str
    values: list[float | None]


@dataclass(frozen=True)
class Chart:
    """Lines over the same steps, with the level of chance or of a floor."""

    name: str
    x: list[int]
    lines: list[Line]
    x_name: str = "step"
    log: bool = True
    chance: float | None = None
    floor: float | None = None


@dataclass(frozen=True)
class Blocks:
    """What a view shows."""

    sentences: list[Spoken] = field(default_factory=list)
    maps: list[Map] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def said(patterns: Spoken, **values: str | float | None) -> Spoken:
    """Returns a sentence in each language with its values filled in."""
    return {language: pattern.format(**values) for language, pattern in patterns.items()}


def show_blocks(console: Console, inspection: Inspection, view: Blocks) -> None:
    """Prints all blocks as sentences and tables."""
    for sentence in view.sentences:
        console.print(sentence[inspection.language])
    for grid in view.maps:
        console.print(f"\n{grid.name}")
        rows = [[name, *map(cell, row)] for name, row in zip(grid.rows, grid.values, strict=True)]
        show_table(console, ["", *grid.columns], rows, justify="right")
    for table in view.tables:
        console.print(f"\n{table.name}")
        show_table(console, table.columns, [list(map(cell, row)) for row in table.rows],
                   justify="right")  # fmt: skip


def cell(value: Cell) -> str:
    """Returns a value as a terminal shows it."""
    if value is None:
        return "-"
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.3f}"
