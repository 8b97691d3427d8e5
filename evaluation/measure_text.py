"""Measures runs on a text.

Previous: command.py.  Next: text.py.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from cfg_gpt2 import require
from evaluation.report import describe
from evaluation.result import Figures, Measure, Origin, Result, Run
from evaluation.score import TextScore, score_text
from evaluation.settings import EvaluateCommand
from evaluation.text import Text, open_text
from run_directory.config_file import read_config
from training.progress import Bar
from training.runtime import Runtime


def measure_text(
    command: EvaluateCommand, typed: str, runtime: Runtime, console: Console
) -> list[Result]:
    """A text, run by run."""
    text = text_for_all(command)
    strides = [stride_of(command, run) for run in command.runs]  # refused before anything is read
    sha256, floor = text.sha256(), text.floor()
    console.print(f"text      {text.about}")
    results = []
    for folder, stride in zip(command.runs, strides, strict=True):
        started = time.monotonic()
        run = Run.open(folder, runtime)
        console.print(f"model     {run.describe()}; the window moves on by {stride}")
        score = scored(run, text, stride, runtime, console, command.batch_size)
        result = Result(
            command=typed,
            measure=Measure(
                what="text", name=f"{text.name}-stride-{stride}", about=text.about,
                paths=text.paths, sha256=sha256, stride=stride,
            ),
            origin=Origin.of(run, runtime, command),
            figures=figures_of(score, floor),
            seconds=round(time.monotonic() - started, 3),
        )  # fmt: skip
        for line in describe(result):
            console.print(line)
        console.print(f"written   {result.write(folder)}")
        results.append(result)
    return results


def text_for_all(command: EvaluateCommand) -> Text:
    """The one text that all runs are measured on."""
    texts = [open_text(command.data.path, run) for run in command.runs]
    same = all(text.source.identity == texts[0].source.identity for text in texts)
    require(same, "--compare needs one text and the runs learned from several; add --data.path")
    return texts[0]


def stride_of(command: EvaluateCommand, run: Path) -> int:
    """--stride, or the context of the run's model."""
    context_length = read_config(run).model.context_length
    stride = command.stride or context_length
    require(
        stride <= context_length,
        f"--stride {stride} would leave out tokens: the context of {run} is {context_length}; "
        f"try {max(1, context_length // 2)}",
    )
    return stride


def scored(
    run: Run, text: Text, stride: int, runtime: Runtime, console: Console, batch_size: int | None
) -> TextScore:
    """Tokenizes and reads the text, each with a bar."""
    with ExitStack() as opened:
        with Bar(console, "tokenizing", text.source.n_bytes(text.split)) as bar:
            reading = text.tokens(run.tokenizer, lambda done, total, what: bar.move(done))
            split = opened.enter_context(reading)
        with Bar(console, "scoring", len(split.tokens) - 1) as bar:
            end = run.tokenizer.end_of_text
            return score_text(run.model, split, end, stride, runtime, bar.move, batch_size)


def figures_of(score: TextScore, floor: float | None) -> Figures:
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
