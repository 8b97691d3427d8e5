"""The pictures of attention and of the heads' scores.

Previous: drawing.py.  Next: text_picture.py.
"""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import SubFigure

from visualization.attention import Attention
from visualization.drawing import TITLES, WIDTH, whole_numbers, write_in_cell
from visualization.heads import Heads
from visualization.inspection import Inspection

MOST_COLUMNS = 8  # maps of attention beside each other, where a layer has fewer heads
LARGEST = 3.0  # inches of a map
SCORES = ("previous", "duplicate", "induction", "sink", "copying")


def columns_of(view: Attention) -> int:
    """Returns how many maps stand beside each other: all heads of one layer or of several."""
    n_layers, n_heads = len(view.layers), len(view.heads)
    divisors = (n for n in range(1, n_layers + 1) if n_layers % n == 0)
    return n_heads * max((n for n in divisors if n * n_heads <= MOST_COLUMNS), default=1)


def attention_height(inspection: Inspection, view: Attention) -> float:
    """Returns the height of square maps that fill the width, up to a size."""
    n_columns = columns_of(view)
    n_rows = len(view.layers) * len(view.heads) // n_columns
    return 0.6 + n_rows * min(LARGEST, 0.95 * WIDTH / n_columns)


def draw_attention(figure: SubFigure, inspection: Inspection, view: Attention) -> None:
    """Draws a map of the weights of each head, with the square root as the colour."""
    n_columns = columns_of(view)
    maps = [(layer, head) for layer in view.layers for head in view.heads]
    grid = figure.subplots(len(maps) // n_columns, n_columns, squeeze=False)
    colours = ScalarMappable(PowerNorm(0.5, 0, 1), "magma_r")
    masked = np.triu(np.ones(view.shape[2:], dtype=bool), 1)  # what no position may look at
    for axes, (layer, head) in zip(grid.flat, maps, strict=True):
        weights = np.ma.array(inspection.trace.weights[layer][0, head].numpy(), mask=masked)
        axes.imshow(weights, cmap=colours.cmap, norm=colours.norm, interpolation="nearest")
        axes.set_title(f"{layer}.{head}", fontsize=7, pad=2)
        whole_numbers(axes, weights.shape[0], weights.shape[0])
    bar = figure.colorbar(colours, ax=list(grid.flat), shrink=0.6, aspect=20)
    bar.ax.tick_params(labelsize=6)


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
