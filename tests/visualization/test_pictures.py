"""The pictures: maps of attention fill their width, whatever the numbers of layers and heads."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from oracles.random_model import SIZES, inspection_of, random_model

from visualization.attention import attention_of
from visualization.heads_picture import attention_height, draw_attention

CASES = [
    ((0, 1, 2), (0, 1, 2, 3), 4),
    ((0, 2), (0, 1, 2, 3), 8),
    ((0, 1, 2), (0, 2), 6),
    ((1,), (3,), 1),
]


@pytest.mark.parametrize("layers, heads, columns", CASES)
def test_each_head_has_a_map_and_no_place_is_empty(
    layers: tuple[int, ...], heads: tuple[int, ...], columns: int
) -> None:
    inspection = inspection_of(random_model(SIZES), list(range(9)))
    inspection = replace(inspection, layers=layers, heads=heads)
    view, figure = attention_of(inspection), Figure()
    draw_attention(figure.subfigures(1, 1), inspection, view)
    *maps, bar = figure.axes
    assert [axes.get_title() for axes in maps] == [f"{n}.{h}" for n in layers for h in heads]
    assert all(axes.images for axes in maps) and not bar.get_title()
    first = maps[0].get_subplotspec()
    assert first is not None and first.get_gridspec().ncols == columns
    assert 0.6 < attention_height(inspection, view) <= 0.6 + 3 * len(maps) / columns
