"""training/progress.py: what is printed on a terminal, in a file or a pipe; loss.png."""

import itertools
from io import StringIO
from typing import Literal

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from training.progress import Metrics, draw_further, show_table, use_log_scale

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


@pytest.mark.parametrize(
    ("low", "high"),
    [(1.1, 1.16), (1.3, 2.6), (0.8, 4.0), (0.2, 3.5), (0.05, 5.0), (0.02, 5.0), (1e-4, 9.0)],
)
def test_labels_of_the_loss_axis_stand_apart(low: float, high: float) -> None:
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [high, low])
    use_log_scale(axes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = [*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)]
    boxes = [label.get_window_extent() for label in labels if label.get_text()]
    inside = axes.bbox
    shown = [box for box in boxes if inside.y0 <= box.y0 + box.height / 2 <= inside.y1]
    shown.sort(key=lambda box: box.y0)
    assert len(shown) >= 2
    assert all(below.y1 < above.y0 for below, above in itertools.pairwise(shown))


def test_the_small_curves_say_their_units_and_have_the_steps_of_the_large_one() -> None:
    lines: list[Metrics] = [
        {"step": 0, "val_loss": 0.6, "val_reward": 0.4, "val_kl_to_world": 2.5},
        {"step": 10, "train_loss": 0.5, "kl": 3.0},
        {"step": 20, "train_loss": 0.3, "kl": 4.0, "val_loss": 0.2, "val_reward": 0.8, "val_kl": 5},
    ]
    figure = Figure()
    axes = draw_further(figure, lines)
    axes.plot([0, 20], [0.6, 0.2])
    small = [each for each in figure.axes if each is not axes]
    assert [each.get_title() for each in small] == [
        "reward", "KL to the world,\nbits per story", "KL from the start,\nbits per answer",
    ]  # fmt: skip
    assert all(each.get_xlim() == axes.get_xlim() for each in small)
    drawn = [[np.asarray(line.get_xdata()).tolist() for line in each.lines] for each in small]
    assert drawn == [[[0, 20]], [[0]], [[10, 20], [20]]]
