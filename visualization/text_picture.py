"""The pictures of a text: surprise, the lens, the twin, and direct attribution.

Previous: heads_picture.py.  Next: pictures.py.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.patches import Rectangle

from visualization.attribution import Attribution
from visualization.drawing import MONO, TITLES, label_of, write_in_cell
from visualization.inspection import Inspection
from visualization.lens import Lens
from visualization.surprise import Surprise
from visualization.twin import Twin

COLUMNS = 104  # characters in a line of the text
MOST_BITS = 8.0  # of a token that has the strongest colour
NOTED_BITS = 1.0  # from which on the bits are written below a token
N_LABELS, N_WORDS = 60, 26  # positions whose tokens stand at the axis, and in the cells


def lay_out(labels: Sequence[str]) -> tuple[list[tuple[int, int]], int]:
    """Returns the line and the column of each label in a text of COLUMNS, and the last line."""
    places, line, column = list[tuple[int, int]](), 0, 0
    for label in labels:
        if column and column + len(label) > COLUMNS:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(label)
    return places, line


def surprise_height(inspection: Inspection, view: Surprise) -> float:
    """Returns the height of the text with room for the bits below each line."""
    _, last = lay_out([label_of(inspection, id) for id in inspection.tokens])
    return 0.5 + 0.33 * (last + 1)


def draw_surprise(figure: SubFigure, inspection: Inspection, view: Surprise) -> None:
    """Draws the text, each token on a ground of its bits, which stand below from 1 bit on."""
    labels = [label_of(inspection, id) for id in inspection.tokens]
    places, last = lay_out(labels)
    axes = figure.subplots()
    axes.set(xlim=(0, COLUMNS), ylim=(2 * last + 2, -0.1))
    axes.set_axis_off()
    colours = matplotlib.colormaps["Oranges"]
    for label, bits, (line, column) in zip(labels, view.bits, places, strict=True):
        share = min(1.0, (bits or 0) / MOST_BITS)
        axes.add_patch(Rectangle((column, 2 * line), len(label), 1, color=colours(0.75 * share)))
        axes.text(column, 2 * line + 0.55, label, fontsize=9, family=MONO, va="center")
        if bits is not None and bits >= NOTED_BITS:
            start = column + len(label) - len(label.lstrip())
            number = f"{bits:.1f}" if len(label) > 2 else f"{bits:.0f}"
            axes.text(start, 2 * line + 1.4, number, fontsize=6, color="#555555", va="center")


def lens_height(inspection: Inspection, view: Lens) -> float:
    """Returns the height of a row for each depth, and of the tokens below."""
    return 1.3 + 0.2 * len(view.depths)


def draw_lens(figure: SubFigure, inspection: Inspection, view: Lens) -> None:
    """Draws depth over position, the embeddings at the bottom, the model's own output on top."""
    values = np.array(view.p_true, dtype=float)  # None, after the last token, becomes nan
    axes = draw_depths(figure, inspection, view.depths, values)
    if values.shape[1] <= N_WORDS:
        for depth, row in enumerate(view.top):
            for t, cell in enumerate(row):
                label, is_dark = label_of(inspection, cell[0][0]), values[depth, t] <= 0.6
                write_in_cell(axes, t, depth, label, is_dark=bool(is_dark))


def draw_depths(
    figure: SubFigure, inspection: Inspection, depths: Sequence[str], values: np.ndarray
) -> Axes:
    """Draws shares by depth and position, with the tokens below where there is room."""
    axes, n_tokens = figure.subplots(), values.shape[1]
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto", origin="lower")
    axes.set_yticks(range(len(depths)), depths, fontsize=6)
    if n_tokens <= N_LABELS:
        labels = [label_of(inspection, id) for id in inspection.tokens[:n_tokens]]
        axes.set_xticks(range(n_tokens), labels, rotation=90, fontsize=6, fontfamily=MONO)
    else:
        axes.set_xlabel(TITLES[inspection.language]["position"], fontsize=7)
        axes.tick_params(axis="x", labelsize=6)
    figure.colorbar(image, ax=axes, shrink=0.7, aspect=30).ax.tick_params(labelsize=6)
    return axes


def twin_height(inspection: Inspection, view: Twin) -> float:
    """Returns the height of a row for each depth, and of the tokens below."""
    return 1.6 + 0.25 * len(view.depths)


def draw_twin(figure: SubFigure, inspection: Inspection, view: Twin) -> None:
    """Draws the effects, and the words of the story and of its twin where they differ."""
    values = np.array(view.effect)
    axes = draw_depths(figure, inspection, view.depths, values)
    tokens = zip(inspection.tokens, view.twin, strict=False)
    differing = [t for t, (here, there) in enumerate(tokens) if here != there]
    words = [
        f"{label_of(inspection, inspection.tokens[t])} →{label_of(inspection, view.twin[t])}"
        for t in differing
    ]
    axes.set_xticks([*differing, len(view.twin) - 1], [*words, "?"], rotation=20, ha="right",
                    fontsize=6)  # fmt: skip


def attribution_height(inspection: Inspection, view: Attribution) -> float:
    """Returns the height of a diagram of bars."""
    return 3.2


def draw_attribution(figure: SubFigure, inspection: Inspection, view: Attribution) -> None:
    """Draws what each part adds to the difference of two tokens, as --view attribution prints."""
    t = inspection.position
    first, second = (f'"{label_of(inspection, id)}"' for id in view.candidates[t][:2])
    title = TITLES[inspection.language]["attribution"].format(first=first, second=second, t=t)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    mine, other = view.values[t][:2]
    pairs = zip(view.parts, (a - b for a, b in zip(mine, other, strict=True)), strict=True)
    largest = sorted(pairs, key=lambda pair: -abs(pair[1]))[:40]
    names, values = [name for name, _ in largest], [value for _, value in largest]
    axes = figure.subplots()
    axes.bar(names, values, color=["#1f4e8c" if value > 0 else "#c0562b" for value in values])
    for position, value in enumerate(values):
        side = "bottom" if value > 0 else "top"
        axes.text(position, value, f"{value:+.2f}", ha="center", va=side, fontsize=5)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.tick_params(axis="x", rotation=90, labelsize=6)
    axes.tick_params(axis="y", labelsize=6)
    axes.margins(x=0.01, y=0.12)
