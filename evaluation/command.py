"""`python main.py evaluate RUN`: the loss of a model on a text, or its score on a task.

Previous: settings.py.  Next: session.py.
"""

from contextlib import ExitStack

from cfg_gpt2 import DataConfig, TrainConfig
from data.piped_text import keep_piped
from evaluation.exam_report import report_exam
from evaluation.measure_harness import measure_harness
from evaluation.measure_task import measure_task
from evaluation.measure_text import measure_text
from evaluation.report import comparison_table, draw_comparison
from evaluation.result import RESULTS_FOLDER, Result
from evaluation.session import Session
from evaluation.settings import EvaluateCommand
from run_directory.config_file import read_config
from run_directory.lock import only_writer
from training.best_checkpoint import best_checkpoint
from training.choose_runtime import choose_runtime
from training.progress import new_console, show_table


def evaluate(command: EvaluateCommand) -> int:
    """Measures each run, writes a result file into each, and compares several; returns 0."""
    if command.best:
        for run in command.runs:
            best_checkpoint(run)  # raises before anything is measured
    settings = TrainConfig(device=command.device, precision=command.precision, compile="off")
    session = Session(
        command=command.command_line,
        runtime=choose_runtime(settings, flags="--"),
        console=new_console(),
        precision=command.precision,
        batch_size=command.batch_size,
        best=command.best,
    )
    session.console.print(f"device    {session.runtime.describe()}")
    with ExitStack() as locks:
        for run in command.runs:
            read_config(run)  # raises where it is no run, in which nothing may be made
            locks.enter_context(only_writer(run / RESULTS_FOLDER, "", session.console.print))
        measure_and_report(command, session)
    return 0


def measure_and_report(command: EvaluateCommand, session: Session) -> None:
    """Measures each run and prints a comparison of several."""
    results = measure(command, session)
    if results[0].measure.what == "exam":
        report_exam(session.console, command.runs[0], results)
    elif len(results) > 1:
        session.console.print()
        heading, *rows = comparison_table(results)
        show_table(session.console, heading, rows, justify="right")
        session.console.print(f"\npicture   {draw_comparison(command.runs[0], results)}")


def measure(command: EvaluateCommand, session: Session) -> list[Result]:
    """Makes the kind of measurement that the flags ask for; returns a result for each run."""
    if command.task:
        return measure_task(command.runs, command.task, command.limit, session)
    if command.harness:
        [run] = command.runs
        tasks, folder = command.harness, command.harness_path
        return [measure_harness(run, tasks, folder, command.limit, session)]
    paths = command.data.path and keep_piped(command.data.path, DataConfig().cache_dir)
    return measure_text(command.runs, paths, command.stride, session)
