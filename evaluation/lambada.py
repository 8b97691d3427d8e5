"""LAMBADA: predicting the last word of a passage, which takes the whole passage.

    acc        = share of items whose last word is the greedy continuation
    perplexity = exp(-mean over items of log p(last word | the words before it))

Paperno et al. 2016, in OpenAI's variant (Radford et al. 2019, section 3.3): a line is
{"text": "..."}; the last word is what follows the last space. Perplexity is by word.
Previous: continuations.py.  Next: hellaswag.py.
"""

from dataclasses import dataclass

from cfg_gpt2 import require
from evaluation.items import Item, ScoredItem, mean, standard_error
from evaluation.result import Figures
from loss import perplexity


@dataclass(frozen=True)
class Passage:
    """A passage: one line of the file."""

    text: str


def parse_passage(line: int, passage: Passage) -> Item:
    """Returns a passage as an item: the words before the last one, and ' ' with the last one."""
    context, _, word = passage.text.rpartition(" ")
    require(passage.text.strip() != "", "text: is empty; give a passage of several words")
    return Item(line=line, context=context, continuations=[" " + word], answer=0)


def is_right(scored: ScoredItem) -> bool:
    """Tells whether greedy decoding would produce the last word."""
    return scored.likelihoods[0].greedy


def figures(scored_items: list[ScoredItem]) -> Figures:
    """Returns the number of items, the perplexity, and the accuracy with its standard error."""
    right = [is_right(scored) for scored in scored_items]
    log_p = [scored.log_probabilities[0] for scored in scored_items]
    return {
        "items": len(scored_items),
        "perplexity": perplexity(-mean(log_p)),
        "acc": mean(right),
        "acc_stderr": standard_error(right),
    }
