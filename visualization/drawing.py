"""What all pictures share: their width, their words in both languages, letters and cells.

Previous: growth_picture.py.  Next: heads_picture.py.
"""

import math
from functools import cache

from matplotlib.axes import Axes
from matplotlib.font_manager import findfont, get_font

from visualization.inspection import Inspection, one_line

WIDTH = 10.0  # inches
FONT, MONO = "DejaVu Sans", "DejaVu Sans Mono"
TITLES = {
    "en": {
        "surprise": "Surprise: bits of each token, from 1 bit on below it",
        "attention": "Attention: from each position (row) to the ones before it (column)",
        "heads": "Heads: scores on repeated random tokens; chance: of a head that looks anywhere",
        "lens": "Lens: probability of the true next token at each depth",
        "attribution": "Direct attribution: {first} against {second} behind position {t}",
        "twin": "Twin: how much of the answer the stream of each position brings back",
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
        "twin": "Двойник: какую долю ответа возвращает поток каждой позиции",
        "growth": "Рост: что и когда выучено, по снимкам обучения",
        "embeddings": "Эмбеддинги: токены по двум направлениям и косинус позиций",
        "position": "позиция",
        "chance": "случайно",
        "head": "голова",
        "layer": "слой",
    },
}


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


def write_in_cell(axes: Axes, column: int, row: int, text: str, *, is_dark: bool) -> None:
    """Writes a text into a cell of a map, in white where the cell is dark."""
    color = "white" if is_dark else "black"
    axes.text(column, row, text, color=color, ha="center", va="center", fontsize=5.5)


def whole_numbers(axes: Axes, n_columns: int, n_rows: int) -> None:
    """Marks columns and rows by their numbers, at most six of each."""
    axes.set_xticks(range(0, n_columns, math.ceil(n_columns / 6)))
    axes.set_yticks(range(0, n_rows, math.ceil(n_rows / 6)))
    axes.tick_params(labelsize=5, length=2)
