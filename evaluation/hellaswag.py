"""HellaSwag: which of four endings follows; wrong ones are written to deceive language models.

    acc      = share of items whose right ending has the highest log p(ending | context)
    acc_norm = the same by log p / number of the ending's characters

Zellers et al. 2019. A line has activity_label, ctx_a, ctx_b, endings and label. The text is
cleaned as lm-evaluation-harness does it, for half of the items come from WikiHow with marks such
as "[header]" in them.
Previous: lambada.py.  Next: download.py.
"""

import math
import re
from dataclasses import dataclass

from cfg_gpt2 import require
from evaluation.items import Answer, Item, mean, standard_error
from evaluation.result import Figures

MARK = re.compile(r"\[.*?\]")


@dataclass(frozen=True)
class Scene:
    """A line of the file."""

    activity_label: str
    ctx_a: str
    ctx_b: str
    endings: list[str]
    label: int  # of the right ending, counted from 0; in some copies it is a string


def cleaned(text: str) -> str:
    """Without WikiHow's marks; a title becomes the end of a sentence."""
    text = text.strip().replace(" [title]", ". ")
    return MARK.sub("", text).replace("  ", " ")


def choice(line: int, scene: Scene) -> Item:
    """What happens, and the endings with a space before them."""
    n_endings = len(scene.endings)
    require(n_endings >= 2, f"endings: there are {n_endings}; a choice needs 2 or more")
    require(
        0 <= scene.label < n_endings,
        f"label: {scene.label} is none of the endings 0 to {n_endings - 1}",
    )
    context = cleaned(f"{scene.activity_label}: {scene.ctx_a} {scene.ctx_b.capitalize()}")
    ways = [" " + cleaned(ending) for ending in scene.endings]
    return Item(line=line, context=context, continuations=ways, answer=scene.label)


def likeliest(answer: Answer) -> int:
    """By the log-probability alone."""
    scores = answer.log_probabilities
    return scores.index(max(scores))


def likeliest_by_length(answer: Answer) -> int:
    """By the log-probability for each character; the space before an ending is not counted.

    An ending of which the cleaning leaves nothing comes last.
    """
    lengths = [len(way) - 1 for way in answer.item.continuations]
    pairs = zip(answer.log_probabilities, lengths, strict=True)
    scores = [log_p / n if n else -math.inf for log_p, n in pairs]
    return scores.index(max(scores))


def is_right(answer: Answer) -> bool:
    return likeliest_by_length(answer) == answer.item.answer


def figures(answers: list[Answer]) -> Figures:
    plain = [likeliest(answer) == answer.item.answer for answer in answers]
    by_length = [is_right(answer) for answer in answers]
    return {
        "items": len(answers),
        "acc": mean(plain),
        "acc_stderr": standard_error(plain),
        "acc_norm": mean(by_length),
        "acc_norm_stderr": standard_error(by_length),
    }
