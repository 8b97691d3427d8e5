"""An exam: questions whose answers are compared exactly. finetuning/ asks them and counts.

    accuracy                    of all questions but the held-out sets, with its 95% interval
    kind/KIND/accuracy          of the questions of one kind; set/SET/accuracy of a held-out set
    .../baseline RULE           the accuracy of a simple rule on the same questions

This folder knows finetuning/ only by the name of one function, which is imported when it is called.
Previous: hellaswag.py.  Next: download.py.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console

from evaluation.result import Figures, Measure, Row, Scored
from evaluation.session import Run, Session
from gpt2 import GPT2Model
from tokenizer import Tokenizer

EXAMS = ("tiny-questions", "tiny-questions-ru")
OPEN_EXAM = "finetuning.exam_task:open_exam"


class Taken(Protocol):
    """The exam of one run, as finetuning/ gives it."""

    name: str
    about: str
    figures: Figures
    rows: list[Row]
    wrong: str


class Questions(Protocol):
    """The questions of an exam, as finetuning/ gives them."""

    name: str
    about: str
    paths: tuple[str, ...]
    sha256: str

    def take(
        self,
        run_dir: Path,
        model: GPT2Model,
        tokenizer: Tokenizer,
        console: Console,
        batch_size: int | None,
    ) -> Taken:
        """Lets a model answer the questions."""
        ...


@dataclass(frozen=True)
class Exam:
    """An exam as a task for runs."""

    questions: Questions

    @property
    def heading(self) -> str:
        """A line about the exam."""
        return self.questions.about

    def measure(self, scored: Scored, limit: int | None) -> Measure:
        """Returns what has been measured."""
        questions = self.questions
        return Measure(
            what="exam", name=scored.name, about=scored.about, paths=questions.paths,
            sha256=questions.sha256, limit=limit,
        )  # fmt: skip

    def score(self, run: Run, session: Session) -> Scored:
        """Lets one run answer. Raises ValueError where no question fits into its context."""
        run.model.eval()
        with session.runtime.autocast():
            taken = self.questions.take(
                run.folder, run.model, run.tokenizer, session.console, session.batch_size
            )
        return Scored(
            name=taken.name, about=taken.about, figures=taken.figures, rows=taken.rows,
            to_read=taken.wrong,
        )  # fmt: skip


def open_exam(task: str, limit: int | None) -> Exam:
    """Returns a built-in exam, or one of a file of questions; a limit spreads over all of them.

    Raises FileNotFoundError where there is no such file, ValueError for a row that is no question.
    """
    module, function = OPEN_EXAM.split(":")
    return Exam(getattr(importlib.import_module(module), function)(task, limit))
