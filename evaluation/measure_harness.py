"""Measures a run on tasks of lm-evaluation-harness, as the harness defines them.

Previous: download.py.  Next: harness.py.
"""

import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from cfg_gpt2 import require
from evaluation.report import report_result
from evaluation.result import Figures, Measure, Origin, Result, named_apart
from evaluation.session import Run, Session
from run_directory.paths import require_folder

PACKAGE = "lm_eval"
BOOTSTRAP_SAMPLES = 1000  # for the standard errors that have no formula


def measure_harness(
    folder: Path,
    tasks: tuple[str, ...],
    task_folder: Path | None,
    limit: int | None,
    session: Session,
) -> Result:
    """Runs tasks of the harness on one run; the result has its figures under its names.

    Args:
        folder: the run directory.
        tasks: the names of the tasks.
        task_folder: a folder with definitions of further tasks.
        limit: the number of items of each task; None: all.
        session: the device, the console and the batch size.
    Raises ValueError where the package, the folder or a task is missing.
    """
    require(
        find_spec(PACKAGE) is not None,
        '--harness needs the package lm-eval; install it by pip install -e ".[eval]"',
    )
    started = time.monotonic()
    run = Run.open(folder, session)
    session.console.print(f"model     {run.describe()}")
    figures = run_tasks(run, tasks, task_folder, limit, session)
    result = Result(
        command=session.command,
        measure=named_apart(
            folder,
            Measure(
                what="harness", name=run.result_name("harness-" + "-".join(tasks)),
                about=f"{', '.join(tasks)} by lm-evaluation-harness {version(PACKAGE)}",
                paths=tasks, sha256=None, limit=limit,
            ),
        ),
        origin=Origin.of(run, session),
        figures=figures,
        seconds=round(time.monotonic() - started, 3),
    )  # fmt: skip
    report_result(session.console, result, folder)
    return result


def run_tasks(
    run: Run, tasks: tuple[str, ...], task_folder: Path | None, limit: int | None, session: Session
) -> Figures:
    """Returns the figures by TASK/METRIC. Raises ValueError for tasks that the harness lacks."""
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    from evaluation.harness import Adapter

    if task_folder:
        require_folder(task_folder, "name a folder with tasks", "--harness-path")
    manager = TaskManager(include_path=str(task_folder) if task_folder else None)
    for name in tasks:
        require(
            name in manager.all_tasks,
            f"--harness {name} is no task of lm-evaluation-harness; lm-eval ls tasks lists them",
        )
    results = simple_evaluate(
        Adapter(run, session.runtime, session.console, session.batch_size),
        tasks=list(tasks),
        limit=limit,
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
