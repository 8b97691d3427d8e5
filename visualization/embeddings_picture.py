"""The picture of the embeddings: tokens as points, a mark for each class; positions as a matrix.

Previous: embeddings.py.  Next: predicates.py.
"""

from matplotlib.figure import SubFigure

from visualization.embeddings import Embeddings
from visualization.inspection import Inspection

MARKS = {"person": "o", "place": "s", "thing": "^", "look": "D", "": "."}
COLOURS = {
    "person": "#0072b2",
    "place": "#d55e00",
    "thing": "#009e73",
    "look": "#cc79a7",
    "": "0.75",
}


def embeddings_height(inspection: Inspection, view: Embeddings) -> float:
    """Returns the height of the points and of the matrix beside them."""
    return 5.0


def draw_embeddings(figure: SubFigure, inspection: Inspection, view: Embeddings) -> None:
    """Draws the tokens as points with a mark for each class, and the positions as a matrix."""
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    for kind in [kind for kind in MARKS if kind in view.classes]:
        places = [place for place, other in enumerate(view.classes) if other == kind]
        xs, ys = zip(*(view.points[place] for place in places), strict=True)
        label = kind or "other"
        left.plot(xs, ys, MARKS[kind], ms=4, color=COLOURS[kind], label=label)
        for place in places[:40] if kind else []:
            text = inspection.text_of(view.ids[place]).text.strip()
            left.annotate(text, view.points[place], fontsize=5, xytext=(2, 2),
                          textcoords="offset points")  # fmt: skip
    left.legend(fontsize=7)
    left.set_title(f"token embeddings, {sum(view.explained[:2]):.0%} of the variance", fontsize=9)
    image = right.imshow(view.position_cosine, cmap="cividis", vmin=-1, vmax=1)
    right.set_title("cosine of positions", fontsize=9)
    ticks = range(0, len(view.positions), max(1, len(view.positions) // 6))
    right.set_xticks(ticks, [str(view.positions[place]) for place in ticks], fontsize=7)
    right.set_yticks(ticks, [str(view.positions[place]) for place in ticks], fontsize=7)
    figure.colorbar(image, ax=right, shrink=0.7)
