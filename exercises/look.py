"""What a part looks at, as maps of rows and columns: the learner's beside the right one.

    influence   |d output at t / d input at s|, the largest of a row as 1
    weights     of attention, read off its output: each value is a vector with a single 1

Previous: russian.py.  Next: report.py.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from commands.language import Language
from exercises.exercise import Case, Panel, Part, Text
from exercises.run_part import build, influence
from run_directory.files import write_whole

SHADES = " .:-=+*#%@"


def influence_panels(cases: Callable[[int], list[Case]]) -> Callable[[Part], list[Panel]]:
    """Returns the look of a part whose only map is the influence of positions on each other."""

    def look(part: Part) -> list[Panel]:
        case = next(case for case in cases(1) if case.kind == "influence")
        module = build(part, case).eval()
        values = influence(module, case)
        labels = tuple(map(str, range(values.size(1))))
        title = Text("influence of each position on each", "влияние позиций друг на друга")
        return [Panel(title=title, values=values, labels=labels)]

    return look


def drawn(values: Tensor, labels: Sequence[str]) -> list[str]:
    """Returns the lines of a map in characters, with the labels of the rows before them."""
    width = max(map(len, labels), default=0)
    finite = torch.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
    levels = (finite * (len(SHADES) - 1)).ceil().long().tolist()
    rows = []
    for t, (row, numbers) in enumerate(zip(levels, values.isnan().tolist(), strict=True)):
        cells = ("?" if is_nan else SHADES[n] for n, is_nan in zip(row, numbers, strict=True))
        label = labels[t] if t < len(labels) else ""
        rows.append(f"{label:>{width}} |{' '.join(cells)}|")
    return rows


def beside(left: Sequence[str], right: Sequence[str], titles: tuple[str, str]) -> list[str]:
    """Returns two maps beside each other, under their titles."""
    width = max(map(len, [titles[0], *left])) + 6
    pairs = zip([titles[0], *left], [titles[1], *right], strict=True)
    return [f"{one:{width}}{other}" for one, other in pairs]


def draw_png(
    path: Path,
    panels: Sequence[tuple[Panel, Tensor]],
    titles: tuple[str, str],
    language: Language,
) -> None:
    """Writes the maps as one picture, a row each: the learner's on the left, the right one."""
    from matplotlib.figure import Figure

    n_rows = len(panels)
    figure = Figure(figsize=(7.5, 3.4 * n_rows), dpi=120, layout="constrained")
    grid = figure.subplots(n_rows, 2, squeeze=False)
    image = None
    for axes, (panel, mine) in zip(grid, panels, strict=True):
        columns = panel.columns or panel.labels
        for one, values, side in zip(axes, (mine, panel.values), titles, strict=True):
            image = one.imshow(values.numpy(), cmap="magma_r", vmin=0, vmax=1)
            one.set_title(f"{panel.title.of(language)}: {side}", fontsize=8)
            one.set_xticks(range(len(columns)), columns, rotation=90, fontsize=7)
            one.set_yticks(range(len(panel.labels)), panel.labels, fontsize=7)
    if image is not None:
        figure.colorbar(image, ax=list(grid.flat), shrink=0.5)
    write_whole(path, lambda part: figure.savefig(part, format="png"))
