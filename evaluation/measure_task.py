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
    Answer,
    Item,
    answers_of,
    encode_items,
    read_items,
    require_room,
)
from evaluation.report import describe
from evaluation.result import Figures, Measure, Origin, Result, Run, file_sha256, write_rows
from evaluation.settings import EvaluateCommand
from training.progress import Bar
from training.runtime import Runtime


@dataclass(frozen=True)
class Task:
    """How a task is read and scored."""

    read: Callable[[Path, int | None], list[Item]]
    figures: Callable[[list[Answer]], Figures]
    is_right: Callable[[Answer], bool]


TASKS = {
    "lambada": Task(
        lambda file, limit: read_items(file, lambada.Passage, lambada.last_word, limit),
        lambada.figures,
        lambada.is_right,
    ),
    "hellaswag": Task(
        lambda file, limit: read_items(file, hellaswag.Scene, hellaswag.choice, limit),
        hellaswag.figures,
        hellaswag.is_right,
    ),
}


def measure_task(
    command: EvaluateCommand, typed: str, runtime: Runtime, console: Console
) -> list[Result]:
    """The same items, run by run."""
    assert command.task
    name, *named = command.task
    require(name in TASKS, f"--task {name} is unknown; choose one of {', '.join(TASKS)}")
    require(
        len(named) <= 1,
        f"--task {' '.join(command.task)} names {len(named)} files; name one, and RUN before it",
    )
    file = Path(named[0]).expanduser() if named else download(name, console)
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
        answers = answered(run, items, file, runtime, console, command.batch_size)
        result = Result(
            command=typed,
            measure=measure,
            origin=Origin.of(run, runtime, command),
            figures=TASKS[name].figures(answers),
            seconds=round(time.monotonic() - started, 3),
        )
        for line in describe(result):
            console.print(line)
        write_rows(folder, name, [row_of(answer, TASKS[name]) for answer in answers])
        console.print(f"written   {result.write(folder)}")
        results.append(result)
    return results


def answered(
    run: Run,
    items: list[Item],
    file: Path,
    runtime: Runtime,
    console: Console,
    batch_size: int | None,
) -> list[Answer]:
    """What the run makes of each item."""
    requests = encode_items(items, run.tokenizer, file)
    require_room(items, requests, run.model.config.context_length, file)
    end = run.tokenizer.end_of_text
    with Bar(console, "scoring", len(requests)) as bar:
        found = score_continuations(run.model, requests, runtime, end, bar.move, batch_size)
    return answers_of(items, found)


def row_of(answer: Answer, task: Task) -> dict[str, object]:
    """A line for the file of items."""
    return {
        "line": answer.item.line,
        "right": task.is_right(answer),
        "answer": answer.item.answer,
        "log_probabilities": answer.log_probabilities,
        "greedy": [likelihood.greedy for likelihood in answer.likelihoods],
    }
