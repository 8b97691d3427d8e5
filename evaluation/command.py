"""`python main.py evaluate RUN`: the loss of a model on a text, or its score on a task.

Previous: ../main.py.  Next: settings.py.
"""

import shlex

from commands.flags import parse_flags
from evaluation.measure_harness import measure_harness
from evaluation.measure_task import measure_task
from evaluation.measure_text import measure_text
from evaluation.report import comparison_table, draw_comparison, show
from evaluation.settings import EvaluateCommand
from training.progress import new_console


def evaluate(arguments: list[str]) -> int:
    """Measures each run, writes a result file into each, and compares several; returns 0."""
    command = parse_flags(EvaluateCommand, "evaluate", arguments)
    console, runtime = new_console(), command.runtime()
    console.print(f"device    {runtime.describe()}")
    measure = measure_task if command.task else measure_text
    if command.harness:
        measure = measure_harness
    command_line = shlex.join(["python", "main.py", "evaluate", *arguments])
    results = measure(command, command_line, runtime, console)
    if len(results) > 1:
        console.print()
        show(console, comparison_table(results))
        console.print(f"\npicture   {draw_comparison(command.runs[0], results)}")
    return 0
