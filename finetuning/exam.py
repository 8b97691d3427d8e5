"""The exam: questions with one right answer each, answered greedily and compared exactly.

    right     an answer that ends by itself and is, as a whole, one of the accepted answers
    accuracy  the share of right answers
    interval  Wilson's: the accuracies p with |accuracy - p| <= z sqrt(p (1 - p) / n), z = 1.96

An answer ends by itself where the model chooses the end-of-text token. The text is trimmed at both
ends and compared letter by letter: no part of an answer counts. Held-out sets are counted apart,
and so is the refusal, the answer to questions of the kind UNSAID.
Previous: checked_questions.py.  Next: own_words.py.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from decoding.engine import cache_bytes, complete
from decoding.settings import SamplingConfig
from finetuning.chat_format import Dialogue, encode_prompt
from gpt2 import GPT2Model
from tokenizer import Tokenizer

UNSAID = "unsaid"  # the kind of questions to which the text gives no answer
MAX_BATCH = 256  # questions that are answered together, unless told otherwise
CACHE_BYTES = 1 << 28  # their keys and values, which bounds the batch of a large model
SPARE_TOKENS = 8  # of an answer beyond the longest accepted one, to see whether it ends by itself
MAJORITY = "most frequent answer"
Z = 1.959964  # 95% of a normal distribution lie within so many standard deviations
Figures = dict[str, float | int | None]
Report = Callable[[int], None]  # is called with the number of questions answered so far


@dataclass(frozen=True, kw_only=True)
class ExamItem:
    """A question with one right answer, which may be worded in several ways."""

    prompt: Dialogue  # ends with the question
    answers: tuple[str, ...]  # the accepted ones
    kind: str
    group: str = ""  # a set that is counted apart, such as a held-out one; "": the main exam
    law: str = ""  # of the story that it is about, by which the main exam is counted too
    baselines: Mapping[str, bool] = field(default_factory=dict)  # simple rules: whether right here


class Answer(NamedTuple):
    """The answer of a model, and whether it ended by itself."""

    text: str
    ended: bool  # by the end-of-text token, and not by the limit of tokens


class Graded(NamedTuple):
    """A question, the model's answer, and whether that is right."""

    item: ExamItem
    answer: Answer
    is_right: bool


def is_right(answer: Answer, accepted: Iterable[str]) -> bool:
    """Tells whether an answer ended by itself and is, as a whole, one of the accepted answers."""
    return answer.ended and answer.text.strip() in {text.strip() for text in accepted}


def take_exam(
    model: GPT2Model,
    tokenizer: Tokenizer,
    items: Sequence[ExamItem],
    report: Report = lambda done: None,
    batch_size: int | None = None,
) -> list[Graded]:
    """Answers the questions that fit into the model's context and grades the answers, in order.

    The model must be in eval mode. Raises UnseenCharacter where the tokenizer lacks a character of
    a question, ValueError where the model gives nan.
    """
    prompts = [encode_prompt(item.prompt, tokenizer) for item in items]
    lengths = [longest_answer(item, tokenizer) for item in items]
    answers = greedy_answers(model, tokenizer, prompts, lengths, report, batch_size)
    return [
        Graded(item, answer, is_right(answer, item.answers))
        for item, answer in zip(items, answers, strict=True)
        if answer
    ]


def longest_answer(item: ExamItem, tokenizer: Tokenizer) -> int:
    """Returns the number of tokens of the longest accepted answer."""
    return max(map(len, tokenizer.encode_batch(list(item.answers))))


def greedy_answers(
    model: GPT2Model,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    lengths: Sequence[int],
    report: Report = lambda done: None,
    batch_size: int | None = None,
) -> list[Answer | None]:
    """Returns the most likely continuation of each prompt, token by token, in order.

    lengths[i] is the number of tokens that the answer to prompt i may have; None stands for one
    that would not fit into the model's context. Prompts of similar length are answered together.
    """
    room = model.config.context_length
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) + lengths[i] <= room]
    fitting.sort(key=lambda i: len(prompts[i]))
    answers: list[Answer | None] = [None] * len(prompts)
    longest = max((len(prompts[i]) + lengths[i] for i in fitting), default=1)
    size = batch_size or questions_per_batch(model, longest)
    for start in range(0, len(fitting), size):
        batch = fitting[start : start + size]
        config = SamplingConfig(
            temperature=0,
            max_new_tokens=max(lengths[i] for i in batch) + SPARE_TOKENS,
            stop_tokens=(tokenizer.end_of_text,),
        )
        rows = complete(model, [prompts[i] for i in batch], config, tokenizer)
        for i, row in zip(batch, rows, strict=True):
            answers[i] = Answer(row.text, row.reason == "stop_token")
        report(start + len(batch))
    return answers


def questions_per_batch(model: GPT2Model, n_tokens: int) -> int:
    """Returns how many texts of n_tokens are generated together."""
    return max(1, min(MAX_BATCH, CACHE_BYTES // cache_bytes(model, 1, n_tokens)))


# Counting -----------------------------------------------------------------------------------


def wilson_interval(n_right: int, n: int) -> tuple[float, float]:
    """Returns the ends of the 95% interval of a share: n_right of n (Wilson 1927)."""
    share, spread = n_right / n, Z * Z / n
    center = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return min(share, center - half), max(share, center + half)  # rounding aside, as they are


def share_figures(right: Sequence[bool]) -> Figures:
    """Returns the number of items, the share of right ones, and the interval of that share."""
    low, high = wilson_interval(sum(right), len(right))
    return {
        "items": len(right),
        "accuracy": sum(right) / len(right),
        "accuracy_low": low,
        "accuracy_high": high,
    }


def exam_figures(graded: Sequence[Graded]) -> Figures:
    """Returns the figures of an exam by name.

    accuracy, ended and the refusal's are of the main exam, or of all items where there is none.
    kind/KIND/accuracy and law/LAW/accuracy are of a part of it, set/SET/accuracy of a set that is
    counted apart; kind/KIND/baseline RULE is the accuracy of a simple rule on the same items.
    """
    main = [one for one in graded if not one.item.group] or list(graded)
    figures = share_figures([one.is_right for one in main])
    figures["ended"] = sum(one.answer.ended for one in main) / len(main)
    figures |= refusal_figures(main) | baseline_figures(main)
    parts: dict[str, list[Graded]] = {}
    for one in main:
        parts.setdefault(f"kind/{one.item.kind}", []).append(one)
    for one in main:
        if one.item.law:
            parts.setdefault(f"law/{one.item.law}", []).append(one)
    for one in graded:
        if one.item.group:
            parts.setdefault(f"set/{one.item.group}", []).append(one)
    for name, part in parts.items():
        own = share_figures([one.is_right for one in part]) | baseline_figures(part)
        figures |= {f"{name}/{figure}": value for figure, value in own.items()}
    return figures


def refusal_figures(graded: Sequence[Graded]) -> Figures:
    """Returns precision and recall of the answer that the text does not say it.

    recall = share of the questions without an answer that are refused; precision = share of the
    refused questions that have none. An answer refuses if its last sentence does. Nothing where no
    item is of the kind UNSAID.
    """
    unanswerable = [one.item for one in graded if one.item.kind == UNSAID]
    if not unanswerable:
        return {}
    refusals = {last_sentence(text) for item in unanswerable for text in item.answers}
    refused = [last_sentence(one.answer.text) in refusals for one in graded]
    unsaid = [one.item.kind == UNSAID for one in graded]
    both = sum(a and b for a, b in zip(refused, unsaid, strict=True))
    return {
        "refusal_precision": both / sum(refused) if any(refused) else None,
        "refusal_recall": both / sum(unsaid),
    }


def last_sentence(text: str) -> str:
    """Returns what follows the last full stop within a text."""
    return text.strip().rpartition(". ")[2]


def baseline_figures(graded: Sequence[Graded]) -> Figures:
    """Returns the accuracy of each simple rule on some items.

    Where no rule is known, it is that of the most frequent right answer, given to all of them.
    """
    rules = dict.fromkeys(rule for one in graded for rule in one.item.baselines)
    n_right = {rule: sum(one.item.baselines.get(rule, False) for one in graded) for rule in rules}
    if not rules:
        answers = Counter(text for one in graded for text in set(one.item.answers))
        n_right = {MAJORITY: max(answers.values())}
    return {f"baseline {rule}": n / len(graded) for rule, n in n_right.items()}
