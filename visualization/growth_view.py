"""What the terminal shows of growth: a line for each snapshot, and the kinds of event as learned.

Previous: growth.py.  Next: growth_picture.py.
"""

from collections.abc import Iterator

from rich.console import Console

from training.progress import show_table
from visualization.growth import LEARNED, Growth, growth_of, strongest
from visualization.inspection import Inspection, View
from visualization.snapshot import SCORES

COLUMNS = ("bits per byte", *SCORES, "depths to settle")


def sum_up(inspection: Inspection, view: Growth) -> str:
    """Returns the first and the last kinds of event that were learned."""
    learned = [kind for kind in view.kinds if kind.learned_at is not None]
    if not learned:
        return (
            f"{len(view.steps)} snapshots, bits per byte {view.bits_per_byte[-1]:.4f} at the last"
        )
    first, last = learned[0], learned[-1]
    return (
        f"{len(view.steps)} snapshots; {first.kind} was learned by step {first.learned_at}, "
        f"{last.kind} by {last.learned_at}, {len(view.kinds) - len(learned)} kinds not yet"
    )


def show_growth(console: Console, inspection: Inspection, view: Growth) -> None:
    """Prints a line for each snapshot, and the kinds of event in the order of their learning."""
    show_table(console, ["step", *COLUMNS], list(rows_of(view)), justify="right")
    if view.left_out:
        steps = ", ".join(map(str, view.left_out))
        console.print(f"left out, for their files cannot be read: the snapshots of steps {steps}")
    if view.probes:
        facts = [[fact, *(f"{share:.0%}" for share in row)] for fact, row in view.probes.items()]
        console.print("\nread by a linear probe at the question in the evening, at each step")
        show_table(console, ["fact", *map(str, view.steps)], facts, justify="right")
    if not view.kinds:
        return
    console.print(
        f"\nby kind of event, learned where less than {LEARNED:g} bits per token are paid above "
        f"the ideal reader, on {view.n_stories} stories"
    )
    heading = ["kind", "learned at", "ideal bits", "paid above at the end", "events"]
    table = [
        [k.kind, str(k.learned_at or "-"), f"{k.ideal_bits:.2f}", f"{k.regret[-1]:.2f}", str(k.n)]
        for k in view.kinds
    ]
    show_table(console, heading, table, justify="right")


def rows_of(view: Growth) -> Iterator[list[str]]:
    """Yields a printed row for each snapshot, with the best head of each score."""
    for number, step in enumerate(view.steps):
        cells = [str(step), f"{view.bits_per_byte[number]:.4f}"]
        for kind in SCORES:
            scores = view.heads[kind][number] if kind in view.heads else []
            layer, head = strongest(scores)
            cells.append(f"{scores[layer][head]:.2f} ({layer}.{head})" if scores else "-")
        yield [*cells, f"{view.lens.settled[number]:.1f} of {len(view.lens.depths)}"]


GROWTH = View(growth_of, show_growth, sum_up, is_default=False)
