"""training/progress.py: what is printed on a terminal, and what in a file or a pipe."""

from io import StringIO
from typing import Literal

import pytest
from rich.console import Console

from training.progress import show_table

ROWS = [("tiny", "1.5", "ok"), ("shakespeare", "10.25", "")]


def printed(heading: tuple[str, ...], terminal: bool, **layout: Literal["left", "right"]) -> str:
    console = Console(file=StringIO(), force_terminal=terminal, width=40, color_system=None)
    show_table(console, heading, ROWS, **layout)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("justify", "expected"),
    [
        ("left", "run          loss   state\ntiny         1.5    ok\nshakespeare  10.25\n"),
        ("right", "run           loss  state\ntiny           1.5     ok\nshakespeare  10.25\n"),
    ],
)
def test_plain_lines_are_padded_and_have_no_spaces_at_their_ends(
    justify: Literal["left", "right"], expected: str
) -> None:
    assert printed(("run", "loss", "state"), terminal=False, justify=justify) == expected


def test_plain_lines_leave_out_a_heading_of_empty_names() -> None:
    assert printed(("", "", ""), terminal=False).splitlines()[0] == "tiny         1.5    ok"


def test_a_terminal_gets_a_frame_that_cuts_no_cell() -> None:
    table = printed(("run", "loss", "state"), terminal=True, justify="right")
    assert "┃ run         ┃  loss ┃ state ┃" in table
    assert "│ shakespeare │ 10.25 │       │" in table
    console = Console(file=StringIO(), force_terminal=True, width=20, color_system=None)
    show_table(console, ("run", "loss"), [("a-name-that-is-longer-than-the-window", "1")])
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()[3:-1]
    assert "".join(line.split("│")[1].strip() for line in lines) == (
        "a-name-that-is-longer-than-the-window"
    )
