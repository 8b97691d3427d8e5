"""Measures runs on a task: LAMBADA or HellaSwag.

Previous: command.py.  Next: measure_harness.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
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
from evaluation.report import summary_lines
from evaluation.result import Figures, Measure, Origin, Result, Run, file_sha256, write_rows
from evaluation.settings import EvaluateCommand
from training.progress import Bar
from training.runtime import Runtime


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
    command: EvaluateCommand, command_line: str, runtime: Runtime, console: Console
) -> list[Result]:
    """Scores the same items with each run, writes and prints a result for each."""
    assert command.task
    name, *files = command.task
    require(name in TASKS, f"--task {name} is unknown; choose one of {', '.join(TASKS)}")
    require(
        len(files) <= 1,
        f"--task {' '.join(command.task)} names {len(files)} files; name one, and RUN before it",
    )
    file = Path(files[0]).expanduser() if files else download(name, console)
    items = TASKS[name].read(file, command.limit)
    console.print(f"task      {name}: {len(items):,} items of {file}")
    measure = Measure(
        what=name, name=name, about=f"{name}, {len(items):,} items", paths=(str(file),),
        sha256=file_sha256(file), limit=command.limit,
    )  # fmt: skip
    results = []
    for folder in command.runs:
        started = time.monotonic()
        run = Run.open(folder, runtime)
        console.print(f"model     {run.describe()}")
        scored_items = score_items(run, items, file, runtime, console, command.batch_size)
        result = Result(
            command=command_line,
            measure=measure,
            origin=Origin.of(run, runtime, command),
            figures=TASKS[name].figures(scored_items),
            seconds=round(time.monotonic() - started, 3),
        )
        for line in summary_lines(result):
            console.print(line)
        write_rows(folder, name, [to_row(scored, TASKS[name]) for scored in scored_items])
        console.print(f"written   {result.write(folder)}")
        results.append(result)
    return results


def score_items(
    run: Run,
    items: list[Item],
    file: Path,
    runtime: Runtime,
    console: Console,
    batch_size: int | None,
) -> list[ScoredItem]:
    """Returns the items with the likelihoods that a run gives to their continuations."""
    requests = encode_items(items, run.tokenizer, file)
    require_fit(items, requests, run.model.config.context_length, file)
    end = run.tokenizer.end_of_text
    with Bar(console, "scoring", len(requests)) as bar:
        likelihoods = score_continuations(run.model, requests, runtime, end, bar.move, batch_size)
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
