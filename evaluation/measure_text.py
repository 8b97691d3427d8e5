"""Measures runs on a text: nats, perplexity and bits per byte.

Previous: command.py.  Next: text.py.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from cfg_gpt2 import require
from evaluation.report import summary_lines
from evaluation.result import Figures, Measure, Origin, Result, Run
from evaluation.score import TextScore, score_text
from evaluation.settings import EvaluateCommand
from evaluation.text import Text, open_text
from run_directory.config_file import read_config
from training.progress import Bar
from training.runtime import Runtime


def measure_text(
    command: EvaluateCommand, command_line: str, runtime: Runtime, console: Console
) -> list[Result]:
    """Scores the same text with each run, writes and prints a result for each."""
    text = common_text(command)
    # raises before anything is read
    strides = [resolve_stride(command, run) for run in command.runs]
    sha256, floor = text.sha256(), text.floor()
    console.print(f"text      {text.about}")
    results = []
    for folder, stride in zip(command.runs, strides, strict=True):
        started = time.monotonic()
        run = Run.open(folder, runtime)
        console.print(f"model     {run.describe()}; stride {stride}")
        score = score_run(run, text, stride, runtime, console, command.batch_size)
        result = Result(
            command=command_line,
            measure=Measure(
                what="text", name=f"{text.name}-stride-{stride}", about=text.about,
                paths=text.paths, sha256=sha256, stride=stride,
            ),
            origin=Origin.of(run, runtime, command),
            figures=to_figures(score, floor),
            seconds=round(time.monotonic() - started, 3),
        )  # fmt: skip
        for line in summary_lines(result):
            console.print(line)
        console.print(f"written   {result.write(folder)}")
        results.append(result)
    return results


def common_text(command: EvaluateCommand) -> Text:
    """Returns the text that all runs are measured on. Raises ValueError where they differ."""
    texts = [open_text(command.data.path, run) for run in command.runs]
    same = all(text.source.identity == texts[0].source.identity for text in texts)
    require(same, "--compare needs one text and the runs learned from several; add --data.path")
    return texts[0]


def resolve_stride(command: EvaluateCommand, run: Path) -> int:
    """Returns --stride, or the context length of the run's model.

    Raises ValueError for a stride beyond the context, which would leave out tokens.
    """
    context_length = read_config(run).model.context_length
    stride = command.stride or context_length
    require(
        stride <= context_length,
        f"--stride {stride} would leave out tokens: the context of {run} is {context_length}; "
        f"try {max(1, context_length // 2)}",
    )
    return stride


def score_run(
    run: Run, text: Text, stride: int, runtime: Runtime, console: Console, batch_size: int | None
) -> TextScore:
    """Tokenizes and scores the text with a run, each with a progress bar."""
    with ExitStack() as stack:
        with Bar(console, "tokenizing", text.source.n_bytes(text.split)) as bar:
            token_files = text.tokens(run.tokenizer, lambda done, total, what: bar.move(done))
            split = stack.enter_context(token_files)
        with Bar(console, "scoring", len(split.tokens) - 1) as bar:
            end = run.tokenizer.end_of_text
            return score_text(run.model, split, end, stride, runtime, bar.move, batch_size)


def to_figures(score: TextScore, floor: float | None) -> Figures:
    """Returns the score by the names that the result file has."""
    return {
        "nats": score.nats,
        "tokens": score.n_tokens,
        "bytes": score.n_bytes,
        "windows": score.n_windows,
        "loss": score.loss,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "floor": floor,
    }
