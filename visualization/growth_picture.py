"""The picture of growth, in four parts.

    bits per byte     regret by kind of event, in the order of learning
    heads
    the lens

Previous: growth_view.py.  Next: drawing.py.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import SubFigure

from visualization.facts import PLACE_OF
from visualization.growth import LEARNED, Growth, strongest
from visualization.inspection import Inspection

STYLES = {  # colour and line of each score
    "previous": ("#0072b2", "-"),
    "duplicate": ("#e69f00", "--"),
    "induction": ("#d55e00", "-."),
    "fact": ("#009e73", "-"),
}
LEAST_SHOWN = 0.01  # bits per token that have the darkest colour, and what is less as well


def growth_height(inspection: Inspection, view: Growth) -> float:
    """Returns the height of three diagrams below each other."""
    return 7.0


def draw_growth(figure: SubFigure, inspection: Inspection, view: Growth) -> None:
    """Draws bits per byte, the best heads, the lens and the kinds of event over the steps."""
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 1.1])[0]
    bits, heads, lens = left.subplots(3, 1, sharex=True)
    steps = [max(step, 0.5) for step in view.steps]  # step 0 has no place on a log scale
    draw_bits(bits, view, steps)
    draw_heads(heads, view, steps)
    draw_lens(lens, view, steps)
    lens.set_xlabel("step (0 at the left edge)", fontsize=8)
    for axes in (bits, heads, lens):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    if view.kinds:
        draw_kinds(right.subplots(1, 1), view)


def draw_bits(axes: Axes, view: Growth, steps: list[float]) -> None:
    """Draws the bits per byte of each snapshot above the floor."""
    axes.plot(steps, view.bits_per_byte, "o-", color="#0072b2", ms=3, label="snapshots")
    if view.floor is not None:
        axes.axhline(view.floor, color="0.4", ls=":", label=f"floor {view.floor:.3f}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=6)
    axes.set_title("bits per byte", fontsize=9)
    axes.legend(fontsize=7)


def draw_heads(axes: Axes, view: Growth, steps: list[float]) -> None:
    """Draws the head that is best at the end by each score, and all others thin."""
    for kind, by_step in view.heads.items():
        colour, style = STYLES[kind]
        layer, head = strongest(by_step[-1])
        values = np.array(by_step)  # (snapshots, layers, heads)
        axes.plot(steps, values.reshape(len(steps), -1), color=colour, lw=0.4, alpha=0.3)
        label = f"{kind}, head {layer}.{head}"
        axes.plot(steps, values[:, layer, head], style, color=colour, lw=2, label=label)
        axes.axhline(view.chance[kind], color=colour, lw=0.8, ls=":")
    if PLACE_OF[0] in view.probes:
        label = f"probe, {PLACE_OF[0]}"
        axes.plot(steps, view.probes[PLACE_OF[0]], "s-", color="black", lw=1, ms=3, label=label)
    axes.set_title("score of the best head (dotted: by chance), and a probe", fontsize=9)
    axes.legend(fontsize=7)


def draw_lens(axes: Axes, view: Growth, steps: list[float]) -> None:
    """Draws how far each depth is from the model's own answer."""
    depths = [name for name in view.lens.depths if not name.endswith("attention")]
    for place, name in enumerate(view.lens.depths):
        if name in depths[:-1]:
            colour = colormaps["viridis"](depths.index(name) / len(depths))
            values = [row[place] for row in view.lens.kl_to_end]
            axes.plot(steps, values, color=colour, label=f"behind {name}")
    axes.set_title("lens: KL from the last depth, bits", fontsize=9)
    axes.legend(fontsize=6)


def draw_kinds(axes: Axes, view: Growth) -> None:
    """Draws regret per token as a table of colours, a mark where a kind is learned."""
    per_token = np.array([[x * k.n / k.n_tokens for x in k.regret] for k in view.kinds])
    norm = LogNorm(LEAST_SHOWN, max(per_token.max(), 2 * LEAST_SHOWN))
    image = axes.imshow(per_token.clip(LEAST_SHOWN), norm=norm, cmap="cividis", aspect="auto")
    for row, kind in enumerate(view.kinds):
        if kind.learned_at is not None:
            axes.plot(view.steps.index(kind.learned_at), row, "o", mfc="none", mec="white", ms=6)
    axes.set_xticks(range(len(view.steps)), [str(step) for step in view.steps], fontsize=6)
    axes.tick_params(axis="x", rotation=90)
    axes.set_yticks(range(len(view.kinds)), [kind.kind for kind in view.kinds], fontsize=7)
    axes.set_xlabel("step", fontsize=8)
    axes.set_title(
        f"bits per token above the ideal reader\n(ring: below {LEARNED:g} from here on)", fontsize=9
    )
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.6, format="{x:g}")
    bar.ax.tick_params(labelsize=7)
