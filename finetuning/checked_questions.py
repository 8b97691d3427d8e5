"""The questions that --data names, whose answers can be checked: a built-in task's, or files'.

Previous: reinforce.py.  Next: exam.py.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from cfg_gpt2 import require
from data.tiny_world.stories import LANGUAGES
from data.token_files import Report
from finetuning.chat_format import Message
from finetuning.conversations import read_questions, split
from finetuning.exam import ExamItem
from finetuning.labelled_data import amounts, begin_with, names_task, require_task
from finetuning.reinforce import QuestionCorpus, Questions
from finetuning.reward_settings import RewardConfig
from finetuning.rewards import StoryItem
from finetuning.tiny_questions.dialogues import TASKS, examples, told
from tokenizer import Tokenizer

N_TRAIN = 8_000  # questions of a built-in task
N_VALIDATION = {"right": 500, "story": 200, "length": 200}  # a story takes as long as ten answers
SEED = 2  # of its stories: others than those of the dialogues and of the pairs
STORIES = ("tell", "ending")  # situations whose answer is a story, of which many are right


def open_questions(
    data: tuple[str, ...],
    system: str | None,
    config: RewardConfig,
    tokenizer: Tokenizer,
    context_length: int,
    report: Report,
    n_examples: int | None,
) -> tuple[QuestionCorpus, list[str]]:
    """Returns questions as the trainer needs them, without a sampler, and lines of text.

    Raises as read_items does, and ValueError where no question leaves room for an answer.
    """
    train, validation = read_items(data, system, config, report, n_examples)
    parts = [
        Questions.of(items, tokenizer, context_length, config.longest)
        for items in (train, validation)
    ]
    notes = [
        f"{len(parts[0]):,} questions of {' '.join(data)}, each answered {config.answers} times; "
        f"{len(parts[1]):,} more to be measured on"
    ]
    n_left_out = sum(part.n_left_out for part in parts)
    if n_left_out:
        notes.append(f"{n_left_out:,} left out: too long for the context with their answer")
    return QuestionCorpus(tokenizer, parts[0], parts[1], config), notes


def read_items(
    data: tuple[str, ...],
    system: str | None,
    config: RewardConfig,
    report: Report,
    n_examples: int | None,
) -> tuple[list[ExamItem], list[ExamItem]]:
    """Returns the questions to learn from and those to be measured on.

    system begins every prompt that has no system message. Raises as read_questions does, and
    ValueError where stories are rewarded and files are given.
    """
    if names_task(data):
        items_of = items_of_task if config.function == "right" else requests_of_task
        n_train, n_validation = amounts(n_examples, N_TRAIN, N_VALIDATION[config.function])
        train = list(items_of(data[0], "train", n_train, report))
        validation = list(items_of(data[0], "validation", n_validation, report))
    else:
        require(
            config.function != "story",
            f"--reward.function story asks for stories of tiny-world, and --data is "
            f"{' '.join(data)}; take --data tiny-questions, or --reward.function right",
        )
        require_task(data, n_examples)
        train, validation = items_of_files(data)
    return list(with_system(train, system)), list(with_system(validation, system))


def items_of_task(task: str, split_name: str, n: int, report: Report) -> Iterator[ExamItem]:
    """Yields the first n questions of a split of a built-in task."""
    asked = (each for each in examples(task, split_name, SEED) if each.situation not in STORIES)
    for number, each in enumerate(islice(asked, n)):
        yield ExamItem(prompt=each.dialogue[:-1], answers=each.answers, kind=each.kind)
        if number % 100 == 0:
            report(number, n, f"{split_name} questions")


def requests_of_task(task: str, split_name: str, n: int, report: Report) -> Iterator[ExamItem]:
    """Yields the first n requests for a story of a split of a built-in task."""
    wordings, world = TASKS[task], LANGUAGES[TASKS[task].world]
    for number in range(n):
        each = told(random.Random(f"{task}/{split_name}/{SEED}/tell/{number}"), wordings, "tell")
        yield StoryItem(
            prompt=each.dialogue[:-1],
            answers=each.answers,
            kind=each.kind,
            who=each.question.who,
            what=each.question.what,
            world=world,
        )
        if number % 100 == 0:
            report(number, n, f"{split_name} requests for stories")


def items_of_files(paths: Sequence[str]) -> tuple[list[ExamItem], list[ExamItem]]:
    """Returns the questions of files, split into those to learn from and those to measure on."""
    items = {
        question.dialogue: ExamItem(
            prompt=question.prompt, answers=question.answers, kind=question.kind
        )
        for question in read_questions(paths)
    }
    train, validation = split(list(items))
    return [items[dialogue] for dialogue in train], [items[dialogue] for dialogue in validation]


def with_system(items: Iterable[ExamItem], system: str | None) -> Iterator[ExamItem]:
    """Yields questions that begin with a system message, their own where they have one."""
    for item in items:
        if system:
            item = replace(item, prompt=begin_with(Message("system", system), item.prompt))
        yield item
