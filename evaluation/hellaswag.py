"""HellaSwag: choosing one of four endings; wrong ones are made to deceive language models.

    acc      = share of items whose right ending has the highest log p(ending | context)
    acc_norm = the same by log p / number of the ending's characters

Zellers et al. 2019. A line has activity_label, ctx_a, ctx_b, endings and label. The text is
cleaned as in lm-evaluation-harness, because half of the items come from WikiHow and contain marks
such as "[header]".
Previous: lambada.py.  Next: exam.py.
"""

import math
import re
from dataclasses import dataclass

from cfg_gpt2 import require
from evaluation.items import Item, ScoredItem, mean, standard_error
from evaluation.result import Figures

MARK = re.compile(r"\[.*?\]")


@dataclass(frozen=True)
class Scene:
    """A scene with its possible endings: one line of the file."""

    activity_label: str
    ctx_a: str
    ctx_b: str
    endings: list[str]
    label: int  # of the right ending, counted from 0; in some copies it is a string


def clean(text: str) -> str:
    """Returns a text without WikiHow's marks; a title becomes the end of a sentence."""
    text = text.strip().replace(" [title]", ". ")
    return MARK.sub("", text).replace("  ", " ")


def parse_scene(line: int, scene: Scene) -> Item:
    """Returns a scene as an item; its continuations are the endings with a space before them.

    Raises ValueError for less than two endings and for a label that is none of them.
    """
    n_endings = len(scene.endings)
    require(n_endings >= 2, f"endings: there are {n_endings}; a choice needs 2 or more")
    require(
        0 <= scene.label < n_endings,
        f"label: {scene.label} is none of the endings 0 to {n_endings - 1}",
    )
    context = clean(f"{scene.activity_label}: {scene.ctx_a} {scene.ctx_b.capitalize()}")
    endings = [" " + clean(ending) for ending in scene.endings]
    return Item(line=line, context=context, continuations=endings, answer=scene.label)


def argmax_choice(scored: ScoredItem) -> int:
    """Returns the index of the ending with the highest log-probability."""
    scores = scored.log_probabilities
    return scores.index(max(scores))


def argmax_choice_by_length(scored: ScoredItem) -> int:
    """Returns the index of the ending with the highest log-probability per character.

    The space before an ending does not count. An ending that cleaning leaves empty comes last.
    """
    lengths = [len(ending) - 1 for ending in scored.item.continuations]
    pairs = zip(scored.log_probabilities, lengths, strict=True)
    scores = [log_p / n if n else -math.inf for log_p, n in pairs]
    return scores.index(max(scores))


def is_right(scored: ScoredItem) -> bool:
    """Tells whether the choice by length, acc_norm, is the right one."""
    return argmax_choice_by_length(scored) == scored.item.answer


def figures(scored_items: list[ScoredItem]) -> Figures:
    """Returns the number of items, and both accuracies with their standard errors."""
    plain = [argmax_choice(scored) == scored.item.answer for scored in scored_items]
    by_length = [is_right(scored) for scored in scored_items]
    return {
        "items": len(scored_items),
        "acc": mean(plain),
        "acc_stderr": standard_error(plain),
        "acc_norm": mean(by_length),
        "acc_norm_stderr": standard_error(by_length),
    }
