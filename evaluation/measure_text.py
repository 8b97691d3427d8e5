"""Measures runs on a text: nats, perplexity and bits per byte.

Previous: session.py.  Next: text.py.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from cfg_gpt2 import require
from evaluation.report import report_result
from evaluation.result import Figures, Measure, Origin, Result, named_apart
from evaluation.score import TextScore, score_text
from evaluation.session import Run, Session
from evaluation.text import Text, open_text
from run_directory.config_file import read_config
from training.progress import Bar


def measure_text(
    runs: list[Path], paths: tuple[str, ...] | None, stride: int | None, session: Session
) -> list[Result]:
    """Scores the same text with each run, writes and prints a result for each.

    Args:
        runs: the run directories.
        paths: where the text is; None: the validation split of the runs' data.
        stride: tokens by which the window moves; None: the context length of each model.
        session: the device, the console and the batch size.
    Raises FileNotFoundError or ValueError for a text or a stride that does not fit.
    """
    text = common_text(runs, paths)
    strides = [resolve_stride(stride, run) for run in runs]  # raises before anything is read
    sha256, floor = text.sha256(), text.floor()
    session.console.print(f"text      {text.about}")
    for note in text.notes:
        session.console.print(f"note      {note}")
    results = []
    for folder, stride in zip(runs, strides, strict=True):
        started = time.monotonic()
        run = Run.open(folder, session)
        session.console.print(f"model     {run.describe()}; stride {stride}")
        score = score_run(run, text, stride, session)
        measure = Measure(
            what="text", name=run.result_name(f"{text.name}-stride-{stride}"), about=text.about,
            paths=text.paths, sha256=sha256, stride=stride,
        )  # fmt: skip
        result = Result(
            command=session.command,
            measure=named_apart(folder, measure),
            origin=Origin.of(run, session),
            figures=to_figures(score, floor),
            seconds=round(time.monotonic() - started, 3),
        )
        report_result(session.console, result, folder)
        results.append(result)
    return results


def common_text(runs: list[Path], paths: tuple[str, ...] | None) -> Text:
    """Returns the text that all runs are measured on. Raises ValueError where they differ."""
    texts = [open_text(paths, run) for run in runs]
    same = all(text.source.identity == texts[0].source.identity for text in texts)
    require(same, "--compare needs one text and the runs learned from several; add --data.path")
    return texts[0]


def resolve_stride(stride: int | None, run: Path) -> int:
    """Returns the stride, or the context length of the run's model.

    Raises ValueError for a stride beyond the context, which would leave out tokens.
    """
    context_length = read_config(run).model.context_length
    stride = stride or context_length
    require(
        stride <= context_length,
        f"--stride {stride} would leave out tokens: the context of {run} is {context_length}; "
        f"try {max(1, context_length // 2)}",
    )
    return stride


def score_run(run: Run, text: Text, stride: int, session: Session) -> TextScore:
    """Tokenizes and scores the text with a run, each with a progress bar."""
    with ExitStack() as stack:
        with Bar(session.console, "tokenizing", text.source.n_bytes(text.split)) as bar:
            token_files = text.tokens(run.tokenizer, lambda done, total, what: bar.move(done))
            split = stack.enter_context(token_files)
        with Bar(session.console, "scoring", len(split.tokens) - 1) as bar:
            end = run.tokenizer.end_of_text
            return score_text(
                run.model, split, end, stride, session.runtime, bar.move, session.batch_size
            )


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
