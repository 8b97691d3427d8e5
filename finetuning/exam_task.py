"""The exams of `python main.py evaluate RUN --task`: the built-in ones, and any file of questions.

    {"prompt": "Where is Max?", "answers": ["In the hall."], "kind": "where-person"}

A run without chat.json has not learned the chat template: it takes a built-in exam in the world's
own words. evaluation/ finds open_exam by its name, and gets plain figures and rows back.
Previous: own_words.py.  Next: settings.py.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from cfg_gpt2 import require
from finetuning.chat_format import Dialogue, Message
from finetuning.chat_json import CHAT_FILE, read_chat_settings
from finetuning.conversations import read_questions
from finetuning.exam import ExamItem, Figures, Graded, exam_figures, take_exam
from finetuning.own_words import draw_cues, take_exam_in_own_words
from finetuning.tiny_questions.baselines import baselines
from finetuning.tiny_questions.dialogues import TASKS, Example
from finetuning.tiny_questions.exam import exam, situations
from gpt2 import GPT2Model
from run_directory.json_file import shortened
from run_directory.printable import printable
from tokenizer import Tokenizer
from training.progress import Bar

HELD_OUT = {  # parts of the exam that nothing like was trained for
    "wording": "unseen wordings",
    "pair": "unseen pairs of thing and place",
    "longer": "longer stories",
}
SITUATIONS = {
    "pronoun": "second question, by a pronoun",
    "pushback": "the user objects",
    "attack": "an order in the story",
}
N_HELD_OUT = 25  # questions of each kind in each held-out part
N_SITUATIONS = 200
MAX_KINDS = 100  # of one file: the table has a row for each
MAX_KIND = 60  # characters of a kind's name, with which its row begins
Row = dict[str, object]
Asked = TypeVar("Asked")


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Questions that several runs answer."""

    name: str
    paths: tuple[str, ...]
    sha256: str
    items: list[ExamItem]
    limit: int | None

    @property
    def about(self) -> str:
        """A description for people."""
        return f"{', '.join(self.paths)}, {len(self.items):,} questions"

    def take(
        self,
        run_dir: Path,
        model: GPT2Model,
        tokenizer: Tokenizer,
        console: Console,
        batch_size: int | None,
    ) -> "ExamTaken":
        """Lets a model answer the questions, or continue stories where it was not tuned for chat.

        A bar shows the speed and the time left. Raises UnseenCharacter for a tokenizer without a
        character of the questions, ValueError where none of them fits into the model's context.
        """
        is_tuned = (run_dir / CHAT_FILE).exists()
        if not is_tuned and self.name in TASKS:
            return self.take_in_own_words(run_dir, model, tokenizer, console, batch_size)
        items = self.items
        if is_tuned:
            items = with_system(items, read_chat_settings(run_dir).system)
        else:
            console.print(
                f"note      {run_dir} has no {CHAT_FILE}: it is asked in the chat template, which "
                "it has not learned"
            )
        with AnswerBar(console, len(items)) as bar:
            graded = take_exam(model, tokenizer, items, bar.move, batch_size)
        n_left_out = count_left_out(len(items), graded, model, console)
        figures = exam_figures(graded) | {"left_out": n_left_out}
        return ExamTaken(self.name, self.about, figures, rows_of(graded), wrong_answers(graded))

    def take_in_own_words(
        self,
        run_dir: Path,
        model: GPT2Model,
        tokenizer: Tokenizer,
        console: Console,
        batch_size: int | None,
    ) -> "ExamTaken":
        """Lets a model continue stories that the questions could be asked about."""
        cues = spread(draw_cues(self.name), self.limit)
        about = f"{self.name} in the world's own words, {len(cues):,} beginnings of stories"
        console.print(f"note      {run_dir} has no {CHAT_FILE}: {about}")
        with AnswerBar(console, len(cues)) as bar:
            graded = take_exam_in_own_words(model, tokenizer, cues, bar.move, batch_size)
        n_left_out = count_left_out(len(cues), graded, model, console)
        figures = exam_figures(graded) | {"left_out": n_left_out}
        del figures["ended"]  # a story goes on behind the answer
        name = f"{self.name}-in-own-words"
        return ExamTaken(name, about, figures, rows_of(graded), wrong_answers(graded))


@dataclass(frozen=True)
class ExamTaken:
    """The exam of one run: what it was, its figures, and a row for each question."""

    name: str
    about: str
    figures: Figures
    rows: list[Row]
    wrong: str  # the wrong answers below their questions, for people


def open_exam(task: str, limit: int | None) -> Exam:
    """Returns the exam of a name, or of a file of questions.

    With a limit it has so many questions, spread evenly over all.
    Raises FileNotFoundError where there is no such file, ValueError for a row that is no question
    and for too many kinds.
    """
    if task in TASKS:
        items, name = built_in_items(task), task
    else:
        items, name = items_of_file(task), Path(task).stem
    items = spread(items, limit)
    return Exam(name=name, paths=(task,), sha256=digest_of(items), items=items, limit=limit)


def built_in_items(task: str) -> list[ExamItem]:
    """Returns the questions of a built-in exam: the main exam, then the sets counted apart."""
    items = items_of(exam(task), "")
    for part, name in HELD_OUT.items():
        items += items_of(exam(task, N_HELD_OUT, part), name)
    for situation, name in SITUATIONS.items():
        items += items_of(situations(task, situation, N_SITUATIONS), name)
    return items


def items_of(examples: Sequence[Example], group: str) -> list[ExamItem]:
    """Returns examples of the task as questions, each with the rules that are right there."""
    rules = baselines(examples)
    return [
        ExamItem(
            prompt=example.dialogue[:-1],
            answers=example.answers,
            kind=example.kind,
            group=group,
            law="" if group else example.law,
            baselines={rule: right[number] for rule, right in rules.items()},
        )
        for number, example in enumerate(examples)
    ]


def items_of_file(file: str) -> list[ExamItem]:
    """Returns the questions of a file. Raises ValueError as open_exam does."""
    items = [
        ExamItem(prompt=question.prompt, answers=question.answers, kind=one_line(question.kind))
        for question in read_questions([file])
    ]
    longest = max((item.kind for item in items), key=len, default="")
    require(
        len(longest) <= MAX_KIND,
        f"--task {file} has a kind of question of {len(longest):,} characters, "
        f"{shortened(longest, MAX_KIND)!r}; a table has room for {MAX_KIND}, so shorten it",
    )
    n_kinds = len({item.kind for item in items})
    require(
        n_kinds <= MAX_KINDS,
        f"--task {file} has {n_kinds:,} kinds of question; a table has room for {MAX_KINDS}, so "
        "give questions that belong together the same kind",
    )
    return items


def one_line(kind: str) -> str:
    """Returns a kind of question as a table prints it."""
    return " ".join(printable(kind).split())


def with_system(items: Sequence[ExamItem], system: str | None) -> list[ExamItem]:
    """Returns the items with the run's system message before prompts that have none."""
    if system is None:
        return list(items)
    message = Message("system", system)
    return [
        item if item.prompt[0].role == "system" else replace(item, prompt=(message, *item.prompt))
        for item in items
    ]


def spread(items: Sequence[Asked], limit: int | None) -> list[Asked]:
    """Returns `limit` of the items, as far apart as they can be; None: all."""
    n = len(items)
    return [items[i * n // limit] for i in range(limit)] if limit and limit < n else list(items)


def count_left_out(
    n_asked: int, graded: Sequence[Graded], model: GPT2Model, console: Console
) -> int:
    """Returns how many questions did not fit into the model's context, and says so."""
    n_left_out, context_length = n_asked - len(graded), model.config.context_length
    require(
        len(graded) > 0,
        f"none of {n_asked:,} questions fits into the model's context of {context_length} tokens; "
        "take a model with more context",
    )
    if n_left_out:
        console.print(
            f"note      {n_left_out:,} of {n_asked:,} questions are left out: with their answers "
            f"they are longer than the model's context of {context_length} tokens"
        )
    return n_left_out


def rows_of(graded: Sequence[Graded]) -> list[Row]:
    """Returns a line for each question, for the file NAME.items.jsonl."""
    return [
        {
            "kind": one.item.kind,
            "set": one.item.group,
            "right": one.is_right,
            "ended": one.answer.ended,
            "answer": one.answer.text,
            "answers": list(one.item.answers),
            "prompt": messages_of(one.item.prompt),
        }
        for one in graded
    ]


def wrong_answers(graded: Sequence[Graded]) -> str:
    """Returns the questions that were answered wrongly, kind by kind, with both answers."""
    wrong = sorted((one for one in graded if not one.is_right), key=lambda one: one.item.kind)
    texts = []
    for item, answer, _ in wrong:
        end = "" if answer.ended else " ... (it does not end by itself)"
        said = [f"{message.role}: {message.content}" for message in item.prompt]
        lines = [f"[{item.kind}]", *said, f"answered: {answer.text.strip()}{end}"]
        texts.append("\n".join([*lines, f"right: {' | '.join(item.answers)}", ""]))
    return "\n".join(texts)


def messages_of(dialogue: Dialogue) -> list[dict[str, str]]:
    """Returns a dialogue in the form of OpenAI's messages."""
    return [{"role": message.role, "content": message.content} for message in dialogue]


def digest_of(items: Sequence[ExamItem]) -> str:
    """Returns the SHA-256 of the questions and their answers."""
    content = [[messages_of(one.prompt), one.answers, one.kind, one.group] for one in items]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class AnswerBar(Bar):
    """A bar that shows how many questions have been answered, and how many a second."""

    def __init__(self, console: Console, n_questions: int) -> None:
        super().__init__(console, "answering", n_questions)

    def move(self, done: int, text: str = "") -> None:
        """Shows that `done` questions are answered."""
        rate = done / max(time.monotonic() - self.started, 1e-9)
        super().move(done, f"{done:,} of {self.total:,} questions, {rate:,.0f} a second {text}")
