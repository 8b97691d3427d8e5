"""`python main.py evaluate RUN`: what a model pays for a text, or how many items it gets right.

Previous: ../main.py.  Next: settings.py.
"""

import shlex

from commands.flags import parse_flags
from evaluation.measure_harness import measure_harness
from evaluation.measure_task import measure_task
from evaluation.measure_text import measure_text
from evaluation.report import draw, show, table_of
from evaluation.settings import EvaluateCommand
from training.progress import new_console


def evaluate(arguments: list[str]) -> int:
    """Measures each run that is named, writes a file for each, compares several."""
    command = parse_flags(EvaluateCommand, "evaluate", arguments)
    console, runtime = new_console(), command.runtime()
    console.print(f"device    {runtime.describe()}")
    measure = measure_task if command.task else measure_text
    if command.harness:
        measure = measure_harness
    typed = shlex.join(["python", "main.py", "evaluate", *arguments])
    results = measure(command, typed, runtime, console)
    if len(results) > 1:
        console.print()
        show(console, table_of(results))
        console.print(f"\npicture   {draw(command.runs[0], results)}")
    return 0
