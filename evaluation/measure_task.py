"""Measures runs on a task: LAMBADA or HellaSwag.

Previous: score.py.  Next: items.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from cfg_gpt2 import require
from evaluation import hellaswag, lambada
from evaluation.continuations import score_continuations
from evaluation.download import download
from evaluation.items import (
    Item,
    ScoredItem,
    encode_items,
    group_by_item,
    read_items,
    require_fit,
)
from evaluation.report import report_result
from evaluation.result import Figures, Measure, Origin, Result, named_apart, write_rows
from evaluation.session import Run, Session
from run_directory.files import sha256
from run_directory.paths import user_path
from training.progress import Bar


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


def measure_task(
    runs: list[Path], task: tuple[str, ...], limit: int | None, session: Session
) -> list[Result]:
    """Scores the same items with each run, writes and prints a result for each.

    Args:
        runs: the run directories.
        task: the name of the task, and its JSONL file where that is not to be downloaded.
        limit: the number of items; None: all.
        session: the device, the console and the batch size.
    Raises FileNotFoundError or ValueError for items that are missing, wrong or too long.
    """
    name, file = find_items(task, session.console)
    items = TASKS[name].read(file, limit)
    session.console.print(f"task      {name}: {len(items):,} items of {file}")
    measured = Measure(
        what=name, name=name, about=f"{name}, {len(items):,} items", paths=(str(file),),
        sha256=sha256(file), limit=limit,
    )  # fmt: skip
    results = []
    for folder in runs:
        started = time.monotonic()
        run = Run.open(folder, session)
        session.console.print(f"model     {run.describe()}")
        scored_items = score_items(run, items, file, session)
        measure = named_apart(folder, replace(measured, name=run.result_name(name)))
        result = Result(
            command=session.command,
            measure=measure,
            origin=Origin.of(run, session),
            figures=TASKS[name].figures(scored_items),
            seconds=round(time.monotonic() - started, 3),
        )
        rows = [to_row(scored, TASKS[name]) for scored in scored_items]
        write_rows(folder, measure.name, rows)
        report_result(session.console, result, folder)
        results.append(result)
    return results


def find_items(task: tuple[str, ...], console: Console) -> tuple[str, Path]:
    """Returns the name of a task and the file of its items, which is downloaded if none is named.

    Raises ValueError for an unknown task and for more than one file.
    """
    name, *files = task
    require(name in TASKS, f"--task {name} is unknown; choose one of {', '.join(TASKS)}")
    require(
        len(files) <= 1,
        f"--task {' '.join(task)} names {len(files)} files; name one, and RUN before it",
    )
    return name, user_path(files[0], "--task") if files else download(name, console)


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


def to_row(scored: ScoredItem, task: Task) -> dict[str, object]:
    """Returns the line of an item for the file NAME.items.jsonl."""
    return {
        "line": scored.item.line,
        "right": task.is_right(scored),
        "answer": scored.item.answer,
        "log_probabilities": scored.log_probabilities,
        "greedy": [likelihood.greedy for likelihood in scored.likelihoods],
    }
