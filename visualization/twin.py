"""The twin: the story that is shown, with two places exchanged, and where the answer stands.

    effect(l, t) = (d_patched - d_twin) / (d_story - d_twin)        d = logit(right) - logit(other)

The model reads the twin up to the answer, with the stream of the story before layer l at position t
alone: 1 gives the story's answer back, 0 changes nothing. patching.py has the mean of many pairs.
Previous: patching.py.  Next: blocks.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from rich.console import Console
from torch import Tensor

from gpt2 import GPT2Model
from training.progress import show_table
from visualization.ablation import residuals, stream_from
from visualization.facts import find_mentions, known_places, told_by
from visualization.ideal import reader_of
from visualization.inspection import Inspection, Report, View
from visualization.patching import Pair, pair_of, places_like

AT_A_TIME = 32  # positions


@dataclass(frozen=True)
class Twin:
    """What the model answers after the story and its twin, and the effect of each place in it."""

    kind: str  # of the event that names the place
    twin: list[int]  # tokens of the twin up to the answer
    right: int  # the answer of the story
    other: int  # that of the twin
    story_lead: float  # logits of right above other, after the story
    twin_lead: float  # the same after the twin
    depths: list[str]  # as those of the lens, without the ones behind attention
    effect: list[list[float]]  # by depth and position


def twin_of(inspection: Inspection) -> Twin | None:
    """Returns the effects for the last place that the evening names, or another known place.

    None for a text that is no story of a built-in world, for a story without a twin, and for a
    model that answers both alike.
    """
    model, pair = inspection.model, chosen_pair(inspection)
    if pair is None:
        return None
    story_lead, twin_lead, effect = effects_of(model, pair, inspection.report)
    if not effect.isfinite().all():
        return None
    return Twin(
        kind=pair.kind,
        twin=pair.corrupt,
        right=pair.right,
        other=pair.other,
        story_lead=round(story_lead, 4),
        twin_lead=round(twin_lead, 4),
        depths=["embedding", *(f"{layer}.feedforward" for layer in range(model.config.n_layer))],
        effect=[[round(share, 4) for share in row] for row in effect.tolist()],
    )


def chosen_pair(inspection: Inspection) -> Pair | None:
    """Returns the story with a twin, at the first place that has one, those of the evening first.

    The other place is one that the story names, where there is one that fits.
    """
    reader, story, tokenizer = reader_of(inspection), inspection.story, inspection.tokenizer
    if reader is None or story is None:
        return None
    mentions = find_mentions(told_by(story, reader, 1), reader)
    named = {mention.place for mention in mentions}
    for mention in sorted(known_places(mentions), key=lambda m: (m.kind != "evening", -m.first)):
        if mention.first > inspection.model.config.context_length:
            continue
        others = places_like(mention.place, reader.language)
        for other in sorted(others, key=lambda place: place not in named):
            if pair := pair_of(story, mention, other, tokenizer, reader):
                return pair
    return None


@torch.no_grad()
def effects_of(
    model: GPT2Model, pair: Pair, report: Report = lambda *_: None
) -> tuple[float, float, Tensor]:
    """Returns the leads of the right answer after story and twin, and the effects, (L + 1, T)."""
    clean, corrupt = (
        torch.cat(residuals(model, torch.tensor([tokens])))  # (L + 1, T, C)
        for tokens in (pair.clean, pair.corrupt)
    )
    row = model.lm_head.weight[pair.right] - model.lm_head.weight[pair.other]  # (C,)

    def lead(layer: int, x: Tensor) -> Tensor:
        """Runs the layers from one on: (B, T, C) -> (B,)."""
        return model.final_norm(stream_from(model, layer, x)[:, -1]) @ row

    n_layer, n_tokens = model.config.n_layer, len(pair.clean)
    story, twin = lead(n_layer, clean[-1:]), lead(n_layer, corrupt[-1:])
    effect = torch.zeros(n_layer + 1, n_tokens)
    first = min(min(positions) for positions in pair.roles.values() if positions)
    for layer in range(n_layer + 1):
        for part in torch.arange(first, n_tokens).split(AT_A_TIME):
            x = corrupt[layer].repeat(len(part), 1, 1)  # (AT_A_TIME, T, C)
            x[torch.arange(len(part)), part] = clean[layer, part]
            effect[layer, part] = (lead(layer, x) - twin) / (story - twin)
        report(layer + 1, n_layer + 1)
    return float(story), float(twin), effect


def strongest(view: Twin) -> Iterator[tuple[str, int, float]]:
    """Yields each depth, the position whose stream has the largest effect there, and the effect."""
    for depth, row in zip(view.depths, view.effect, strict=True):
        t = max(range(len(row)), key=row.__getitem__)
        yield depth, t, row[t]


def show_twin(console: Console, inspection: Inspection, view: Twin) -> None:
    """Prints what both are answered, and for each depth where most of the answer stands."""
    right, other = inspection.shown(view.right), inspection.shown(view.other)
    console.print(
        f"before the word at {len(view.twin)} the model has {right} {view.story_lead:+.2f} logits "
        f"above {other} after the story, {view.twin_lead:+.2f} after its twin"
    )
    rows = [
        [depth, str(t), inspection.shown(inspection.tokens[t]), f"{share:.2f}"]
        for depth, t, share in strongest(view)
    ]
    show_table(console, ["depth", "position", "token", "effect"], rows)


def sum_up(inspection: Inspection, view: Twin) -> str:
    """Returns the depth at which the answer has reached the place where it is given."""
    last = len(view.twin) - 1
    here = next(depth for depth, t, _ in strongest(view) if t == last)
    return (
        f"with two places exchanged {inspection.shown(view.other)} is right in place of "
        f"{inspection.shown(view.right)} at {last + 1}; the answer stands there behind {here}"
    )


TWIN = View(
    twin_of,
    show_twin,
    summary=sum_up,
    ids=lambda view: (*view.twin, view.right, view.other),
)
