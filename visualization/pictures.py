"""Pictures: the views as one PNG or SVG, for a paper, a README, a slide.

A view has a picture where PICTURES has a row for it: the height that it needs, and what draws it.
Every colour stands beside a number, a text or an axis, and the maps are readable without red and
green. Letters that the font lacks are drawn as escapes.
Previous: growth_picture.py.  Next: page.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Generic, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Rectangle

from cfg_gpt2 import require
from run_directory.files import write_whole
from visualization.attention import Attention
from visualization.attribution import Attribution
from visualization.embeddings_picture import draw_embeddings, embeddings_height
from visualization.growth_picture import draw_growth, growth_height
from visualization.heads import Heads
from visualization.inspection import Inspection, one_line
from visualization.lens import Lens
from visualization.surprise import Surprise

WIDTH = 10.0  # inches
COLUMNS = 104  # characters in a line of the text
FONT, MONO = "DejaVu Sans", "DejaVu Sans Mono"
MOST_BITS = 8.0  # of a token that has the strongest colour
NOTED_BITS = 1.0  # from which on the bits are written below a token
MIN_COLUMNS = 6  # of the maps of attention: fewer heads are no larger
N_LABELS, N_WORDS = 60, 26  # positions whose tokens stand at the axis, and in the cells
SCORES = ("previous", "duplicate", "induction", "sink", "copying")
TITLES = {
    "en": {
        "surprise": "Surprise: bits of each token, from 1 bit on below it",
        "attention": "Attention: from each position (row) to the ones before it (column)",
        "heads": "Heads: scores on repeated random tokens; chance: of a head that looks anywhere",
        "lens": "Lens: probability of the true next token at each depth",
        "attribution": "Direct attribution: {first} against {second} behind position {t}",
        "growth": "Growth: what was learned when, from the snapshots of the training",
        "embeddings": "Embeddings: tokens along two directions, and the cosine of positions",
        "position": "position",
        "chance": "chance",
        "head": "head",
        "layer": "layer",
    },
    "ru": {
        "surprise": "Неожиданность: биты каждого токена, от 1 бита — под ним",
        "attention": "Внимание: от каждой позиции (строка) к предыдущим (столбец)",
        "heads": "Головы: оценки на повторённых случайных токенах; случайно: у равномерной головы",
        "lens": "Линза: вероятность верного следующего токена на каждой глубине",
        "attribution": "Прямой вклад: {first} против {second} после позиции {t}",
        "growth": "Рост: что и когда выучено, по снимкам обучения",
        "embeddings": "Эмбеддинги: токены по двум направлениям и косинус позиций",
        "position": "позиция",
        "chance": "случайно",
        "head": "голова",
        "layer": "слой",
    },
}

Shown = TypeVar("Shown")


@dataclass(frozen=True)
class Picture(Generic[Shown]):
    """How a view is drawn: the height in inches that it needs, and the function that draws it."""

    height: Callable[[Inspection, Shown], float]
    draw: Callable[[SubFigure, Inspection, Shown], None]


def draw_views(
    path: Path, file_format: str, inspection: Inspection, shown: dict[str, object]
) -> None:
    """Writes the pictures of all views that have one below each other, whole or not at all.

    Raises ValueError where none of them has one.
    """
    drawn = {name: PICTURES[name] for name in shown if name in PICTURES}
    require(
        len(drawn) > 0,
        f"--view {' '.join(shown)} has no picture; choose among {', '.join(PICTURES)}",
    )
    heights = [picture.height(inspection, shown[name]) for name, picture in drawn.items()]
    # a dollar sign is no formula, and the same picture is the same file
    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "xray"}):
        figure = Figure(figsize=(WIDTH, sum(heights)), dpi=120, layout="constrained")
        parts = figure.subfigures(len(drawn), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, (name, picture) in zip(parts, drawn.items(), strict=True):
            part.suptitle(TITLES[inspection.language][name], fontsize=9, x=0.01, ha="left")
            picture.draw(part, inspection, shown[name])
        none = {"Date": None} if file_format == "svg" else {}
        write_whole(path, lambda file: figure.savefig(file, format=file_format, metadata=none))


@cache
def known_letters() -> frozenset[int]:
    """Returns the code points that the fonts have."""
    fonts = [get_font(findfont(name)).get_charmap().keys() for name in (FONT, MONO)]
    return frozenset(fonts[0] & fonts[1])


def label_of(inspection: Inspection, id: int) -> str:
    """Returns a token as a picture shows it: its text, or its bytes as <d0>."""
    token = inspection.text_of(id)
    text = f"<{token.bytes}>" if token.bytes else one_line(token.text)
    known = known_letters()
    return "".join(c if ord(c) in known else f"\\u{ord(c):04x}" for c in text)


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


def attention_height(inspection: Inspection, view: Attention) -> float:
    """Returns the height of square thumbnails, a row for each layer."""
    return 0.6 + len(view.layers) * 0.95 * WIDTH / max(MIN_COLUMNS, len(view.heads))


def draw_attention(figure: SubFigure, inspection: Inspection, view: Attention) -> None:
    """Draws a map of the weights of each head, with the square root as the colour."""
    n_columns = max(MIN_COLUMNS, len(view.heads))
    grid = figure.subplots(len(view.layers), n_columns, squeeze=False)
    masked = np.triu(np.ones(view.shape[2:], dtype=bool), 1)  # what no position may look at
    for axes in grid.flat:
        axes.set_axis_off()
    image = None
    for row, layer in zip(grid, view.layers, strict=True):
        for axes, head in zip(row, view.heads, strict=False):
            axes.set_axis_on()
            weights = np.ma.array(inspection.trace.weights[layer][0, head].numpy(), mask=masked)
            image = axes.imshow(
                weights, cmap="magma_r", norm=PowerNorm(0.5, 0, 1), interpolation="nearest"
            )
            axes.set_title(f"{layer}.{head}", fontsize=7, pad=2)
            whole_numbers(axes, weights.shape[0], weights.shape[0])
    if image is not None:
        used = list(grid[:, : len(view.heads)].flat)
        figure.colorbar(image, ax=used, shrink=0.6, aspect=20).ax.tick_params(labelsize=6)


def heads_height(inspection: Inspection, view: Heads) -> float:
    """Returns the height of a map with a row for each layer."""
    return 1.1 + 0.28 * inspection.model.config.n_layer


def draw_heads(figure: SubFigure, inspection: Inspection, view: Heads) -> None:
    """Draws a map of each score by layer and head, its chance level in the title."""
    sizes, words = inspection.model.config, TITLES[inspection.language]
    for axes, name in zip(figure.subplots(1, len(SCORES)), SCORES, strict=True):
        values = np.array([getattr(row, name) for row in view.rows])
        values = values.reshape(sizes.n_layer, sizes.n_head)
        low, colours = (-1, "PuOr") if name == "copying" else (0, "Blues")
        axes.imshow(values, cmap=colours, vmin=low, vmax=1, aspect="auto")
        chance = getattr(view.chance, name)
        axes.set_title(f"{name}\n{words['chance']} {chance:.2f}", fontsize=7)
        axes.set_xlabel(words["head"], fontsize=7)
        whole_numbers(axes, sizes.n_head, sizes.n_layer)
        if sizes.n_head <= 6:
            for (layer, head), value in np.ndenumerate(values):
                write_in_cell(axes, head, layer, f"{value:.2f}", is_dark=abs(value) > 0.6)
    figure.axes[0].set_ylabel(words["layer"], fontsize=7)


def write_in_cell(axes: Axes, column: int, row: int, text: str, *, is_dark: bool) -> None:
    """Writes a text into a cell of a map, in white where the cell is dark."""
    color = "white" if is_dark else "black"
    axes.text(column, row, text, color=color, ha="center", va="center", fontsize=5.5)


def whole_numbers(axes: Axes, n_columns: int, n_rows: int) -> None:
    """Marks columns and rows by their numbers, at most six of each."""
    axes.set_xticks(range(0, n_columns, math.ceil(n_columns / 6)))
    axes.set_yticks(range(0, n_rows, math.ceil(n_rows / 6)))
    axes.tick_params(labelsize=5, length=2)


def lens_height(inspection: Inspection, view: Lens) -> float:
    """Returns the height of a row for each depth, and of the tokens below."""
    return 1.3 + 0.2 * len(view.depths)


def draw_lens(figure: SubFigure, inspection: Inspection, view: Lens) -> None:
    """Draws depth over position, the embeddings at the bottom, the model's own output on top."""
    values = np.array(view.p_true, dtype=float)  # None, after the last token, becomes nan
    axes, n_tokens = figure.subplots(), values.shape[1]
    image = axes.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto", origin="lower")
    axes.set_yticks(range(len(view.depths)), view.depths, fontsize=6)
    if n_tokens <= N_LABELS:
        labels = [label_of(inspection, id) for id in inspection.tokens]
        axes.set_xticks(range(n_tokens), labels, rotation=90, fontsize=6, fontfamily=MONO)
    else:
        axes.set_xlabel(TITLES[inspection.language]["position"], fontsize=7)
        axes.tick_params(axis="x", labelsize=6)
    if n_tokens <= N_WORDS:
        for depth, row in enumerate(view.top):
            for t, cell in enumerate(row):
                label, is_dark = label_of(inspection, cell[0][0]), values[depth, t] <= 0.6
                write_in_cell(axes, t, depth, label, is_dark=bool(is_dark))
    figure.colorbar(image, ax=axes, shrink=0.7, aspect=30).ax.tick_params(labelsize=6)


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


PICTURES: dict[str, Picture] = {
    "surprise": Picture(surprise_height, draw_surprise),
    "attention": Picture(attention_height, draw_attention),
    "heads": Picture(heads_height, draw_heads),
    "lens": Picture(lens_height, draw_lens),
    "attribution": Picture(attribution_height, draw_attribution),
    "embeddings": Picture(embeddings_height, draw_embeddings),
    "growth": Picture(growth_height, draw_growth),
}
