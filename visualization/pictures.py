"""Pictures: the views as one PNG or SVG, for a paper, a README, a slide.

A view has a picture where PICTURES has a row for it: the height that it needs, and what draws it.
Every colour stands beside a number, a text or an axis, and the maps are readable without red and
green. Letters that the font lacks are drawn as escapes.
Previous: text_picture.py.  Next: page.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import matplotlib
from matplotlib.figure import Figure, SubFigure

from cfg_gpt2 import require
from run_directory.files import write_whole
from visualization.drawing import TITLES, WIDTH
from visualization.embeddings_picture import draw_embeddings, embeddings_height
from visualization.growth_picture import draw_growth, growth_height
from visualization.heads_picture import attention_height, draw_attention, draw_heads, heads_height
from visualization.inspection import Inspection
from visualization.text_picture import (
    attribution_height,
    draw_attribution,
    draw_lens,
    draw_surprise,
    draw_twin,
    lens_height,
    surprise_height,
    twin_height,
)

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


PICTURES: dict[str, Picture] = {
    "surprise": Picture(surprise_height, draw_surprise),
    "attention": Picture(attention_height, draw_attention),
    "heads": Picture(heads_height, draw_heads),
    "lens": Picture(lens_height, draw_lens),
    "attribution": Picture(attribution_height, draw_attribution),
    "twin": Picture(twin_height, draw_twin),
    "embeddings": Picture(embeddings_height, draw_embeddings),
    "growth": Picture(growth_height, draw_growth),
}
