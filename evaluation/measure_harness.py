"""Measures a run on tasks of lm-evaluation-harness, as the harness defines them.

Previous: measure_task.py.  Next: harness.py.
"""

import time
from importlib.metadata import version
from importlib.util import find_spec

from rich.console import Console

from cfg_gpt2 import require
from evaluation.report import summary_lines
from evaluation.result import Figures, Measure, Origin, Result, Run
from evaluation.settings import EvaluateCommand
from training.runtime import Runtime

PACKAGE = "lm_eval"
BOOTSTRAP_SAMPLES = 1000  # for the standard errors that have no formula


def measure_harness(
    command: EvaluateCommand, command_line: str, runtime: Runtime, console: Console
) -> list[Result]:
    """Runs tasks of the harness on one run; the result has its figures under its names."""
    require(
        find_spec(PACKAGE) is not None,
        '--harness needs the package lm-eval; install it by pip install -e ".[eval]"',
    )
    assert command.harness
    folder, started = command.runs[0], time.monotonic()
    run = Run.open(folder, runtime)
    console.print(f"model     {run.describe()}")
    figures = run_tasks(command, run, runtime, console)
    names = ", ".join(command.harness)
    result = Result(
        command=command_line,
        measure=Measure(
            what="harness", name="harness-" + "-".join(command.harness).replace("/", "-"),
            about=f"{names} by lm-evaluation-harness {version(PACKAGE)}", paths=command.harness,
            sha256=None, limit=command.limit,
        ),
        origin=Origin.of(run, runtime, command),
        figures=figures,
        seconds=round(time.monotonic() - started, 3),
    )  # fmt: skip
    for line in summary_lines(result):
        console.print(line)
    console.print(f"written   {result.write(folder)}")
    return [result]


def run_tasks(command: EvaluateCommand, run: Run, runtime: Runtime, console: Console) -> Figures:
    """Returns the figures by TASK/METRIC. Raises ValueError for tasks that the harness lacks."""
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    from evaluation.harness import Adapter

    assert command.harness
    folder = command.harness_path
    require(folder is None or folder.is_dir(), f"--harness-path {folder} is no folder; name one")
    manager = TaskManager(include_path=str(folder) if folder else None)
    for name in command.harness:
        require(
            name in manager.all_tasks,
            f"--harness {name} is no task of lm-evaluation-harness; lm-eval ls tasks lists them",
        )
    results = simple_evaluate(
        Adapter(run, runtime, console, command.batch_size),
        tasks=list(command.harness),
        limit=command.limit,
        task_manager=manager,
        bootstrap_iters=BOOTSTRAP_SAMPLES,
        log_samples=False,
    )
    assert results is not None
    return {
        f"{task}/{metric.removesuffix(',none')}": value
        for task, metrics in results["results"].items()
        for metric, value in metrics.items()
        if isinstance(value, int | float)
    }
