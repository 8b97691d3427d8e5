"""Measures runs on a task: LAMBADA, HellaSwag, or an exam of questions and answers.

Previous: score.py.  Next: items.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from rich.console import Console

from cfg_gpt2 import require
from evaluation import hellaswag, lambada
from evaluation.continuations import score_continuations
from evaluation.download import download
from evaluation.exam import EXAMS, open_exam
from evaluation.items import (
    Item,
    ScoredItem,
    encode_items,
    group_by_item,
    read_items,
    require_fit,
)
from evaluation.report import report_result
from evaluation.result import (
    RESULTS_FOLDER,
    Figures,
    Measure,
    Origin,
    Result,
    Row,
    Scored,
    named_apart,
    write_items,
)
from evaluation.session import Run, Session
from run_directory.files import sha256
from run_directory.paths import user_path
from training.progress import Bar


class OpenedTask(Protocol):
    """The items of a task, on which every run is measured."""

    @property
    def heading(self) -> str:
        """A line about the task."""
        ...

    def measure(self, scored: Scored, limit: int | None) -> Measure:
        """Returns what has been measured."""
        ...

    def score(self, run: Run, session: Session) -> Scored:
        """Measures one run."""
        ...


@dataclass(frozen=True)
class Task:
    """The functions that read the items of a task and compute its figures."""

    read: Callable[[Path, int | None], list[Item]]
    figures: Callable[[list[ScoredItem]], Figures]
    is_right: Callable[[ScoredItem], bool]


TASKS = {
    "lambada": Task(
        lambda file, limit: read_items(file, lambada.Passage, lambada.parse_passage, limit),
        lambada.figures,
        lambada.is_right,
    ),
    "hellaswag": Task(
        lambda file, limit: read_items(file, hellaswag.Scene, hellaswag.parse_scene, limit),
        hellaswag.figures,
        hellaswag.is_right,
    ),
}


@dataclass(frozen=True)
class LikelihoodTask:
    """A task whose items are contexts with possible continuations."""

    name: str
    file: Path
    items: list[Item]

    @property
    def heading(self) -> str:
        """A line about the task."""
        return f"{self.name}: {len(self.items):,} items of {self.file}"

    def measure(self, scored: Scored, limit: int | None) -> Measure:
        """Returns what has been measured."""
        return Measure(
            what=self.name, name=scored.name, about=scored.about, paths=(str(self.file),),
            sha256=sha256(self.file), limit=limit,
        )  # fmt: skip

    def score(self, run: Run, session: Session) -> Scored:
        """Measures one run. Raises ValueError for items that do not fit into its context."""
        task = TASKS[self.name]
        scored_items = score_items(run, self.items, self.file, session)
        return Scored(
            name=self.name,
            about=f"{self.name}, {len(self.items):,} items",
            figures=task.figures(scored_items),
            rows=[to_row(scored, task) for scored in scored_items],
        )


def measure_task(
    runs: list[Path], task: tuple[str, ...], limit: int | None, session: Session
) -> list[Result]:
    """Scores the same items with each run, writes and prints a result for each.

    Args:
        runs: the run directories.
        task: the name of the task, and its JSONL file where that is not to be downloaded; or a
            file of questions.
        limit: the number of items; None: all.
        session: the device, the console and the batch size.
    Raises FileNotFoundError or ValueError for items that are missing, wrong or too long.
    """
    opened = open_task(task, limit, session.console)
    session.console.print(f"task      {opened.heading}")
    results = []
    for folder in runs:
        started = time.monotonic()
        run = Run.open(folder, session)
        session.console.print(f"model     {run.describe()}")
        scored = opened.score(run, session)
        measure = opened.measure(scored, limit)
        measure = named_apart(folder, replace(measure, name=run.result_name(measure.name)))
        result = Result(
            command=session.command,
            measure=measure,
            origin=Origin.of(run, session),
            figures=scored.figures,
            seconds=round(time.monotonic() - started, 3),
        )
        write_items(folder, measure.name, scored)
        report_result(session.console, result, folder)
        if scored.to_read:
            file = folder / RESULTS_FOLDER / f"{measure.name}.wrong.txt"
            session.console.print(f"wrong     the wrong answers are in {file}")
        results.append(result)
    return results


def open_task(task: tuple[str, ...], limit: int | None, console: Console) -> OpenedTask:
    """Returns a task with its items.

    Raises FileNotFoundError for a missing file, ValueError for an unknown task and for more than
    one file.
    """
    name, *files = task
    if name not in (*TASKS, *EXAMS):
        is_file = Path(name).suffix != "" or Path(name).exists()
        require(
            is_file,
            f"--task {name} is unknown; choose one of {', '.join((*TASKS, *EXAMS))}, or name a "
            "file of questions",
        )
        files = [name, *files]
    require(
        len(files) <= 1,
        f"--task {' '.join(task)} names {len(files)} files; name one, and RUN before it",
    )
    paths = [user_path(file, "--task") for file in files]
    if name in TASKS:
        file = paths[0] if paths else download(name, console)
        return LikelihoodTask(name, file, TASKS[name].read(file, limit))
    require(
        name not in EXAMS or not files,
        f"--task {name} brings its own questions; leave out {' '.join(files)}",
    )
    return open_exam(str(paths[0]) if paths else name, limit)


def score_items(run: Run, items: list[Item], file: Path, session: Session) -> list[ScoredItem]:
    """Returns the items with the likelihoods that a run gives to their continuations."""
    requests = encode_items(items, run.tokenizer, file)
    require_fit(items, requests, run.model.config.context_length, file)
    end = run.tokenizer.end_of_text
    with Bar(session.console, "scoring", len(requests)) as bar:
        likelihoods = score_continuations(
            run.model, requests, session.runtime, end, bar.move, session.batch_size
        )
    return group_by_item(items, likelihoods)


def to_row(scored: ScoredItem, task: Task) -> Row:
    """Returns the line of an item for the file NAME.items.jsonl."""
    return {
        "line": scored.item.line,
        "right": task.is_right(scored),
        "answer": scored.item.answer,
        "log_probabilities": scored.log_probabilities,
        "greedy": [likelihood.greedy for likelihood in scored.likelihoods],
    }
