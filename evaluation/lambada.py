"""LAMBADA: the last word of a passage, which only the whole passage gives away.

    acc        = share of items whose last word is what the model would have written
    perplexity = exp(-mean over items of log p(last word | the words before it))

Paperno et al. 2016, in OpenAI's variant (Radford et al. 2019, section 3.3): a line is
{"text": "..."}; the last word is what follows the last space. Perplexity is by word.
Previous: items.py.  Next: hellaswag.py.
"""

from dataclasses import dataclass

from cfg_gpt2 import require
from evaluation.items import Answer, Item, mean, standard_error
from evaluation.result import Figures
from loss import perplexity


@dataclass(frozen=True)
class Passage:
    """A line of the file."""

    text: str


def last_word(line: int, passage: Passage) -> Item:
    """The words before the last one, and the last one with its space."""
    context, _, word = passage.text.rpartition(" ")
    require(passage.text.strip() != "", "text: is empty; give a passage of several words")
    return Item(line=line, context=context, continuations=[" " + word], answer=0)


def is_right(answer: Answer) -> bool:
    return answer.likelihoods[0].greedy


def figures(answers: list[Answer]) -> Figures:
    right = [is_right(answer) for answer in answers]
    return {
        "items": len(answers),
        "perplexity": perplexity(-mean([answer.log_probabilities[0] for answer in answers])),
        "acc": mean(right),
        "acc_stderr": standard_error(right),
    }
