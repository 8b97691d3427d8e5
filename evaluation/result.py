"""The result file: figures, and everything needed to reproduce them, as JSON in the run.

Previous: harness.py.  Next: report.py.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch
from pydantic import TypeAdapter

from evaluation.session import Run, Session
from run_directory.files import sha256, write_whole
from run_directory.weights import WEIGHTS_FILE
from tokenizer import TOKENIZER_FILE
from training.best_checkpoint import best_checkpoint
from training.checkpoint import RECORD_FILE

RESULTS_FOLDER = "evaluation"  # in the run directory
FORMAT_VERSION = 1
Figures = dict[str, float | int | None]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The kind of measurement and the data that it is made on."""

    what: str  # text, lambada, hellaswag, harness
    name: str  # of the files that are written
    about: str  # a description for people
    paths: tuple[str, ...]
    sha256: str | None  # of the text, or of the file with the items
    stride: int | None = None
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The model that was measured, and the hardware and software that it ran on."""

    run: str
    parameters: int
    context_length: int
    vocab_size: int
    weights_sha256: str
    step: int | None  # of the weights, where they are the best ones and not the newest
    tokenizer_sha256: str
    device: str
    precision: str
    batch_size: int | None
    torch: str
    python: str
    date: str

    @classmethod
    def of(cls, run: Run, session: Session) -> "Origin":
        """Describes a run and the current environment."""
        sizes = run.model.config
        return cls(
            run=run.folder.as_posix(),
            parameters=run.model.n_parameters(),
            context_length=sizes.context_length,
            vocab_size=sizes.vocab_size,
            weights_sha256=sha256(weights_of(run)),
            step=run.step,
            tokenizer_sha256=sha256(run.folder / TOKENIZER_FILE),
            device=session.runtime.describe(),
            precision=session.precision,
            batch_size=session.batch_size,
            torch=torch.__version__,
            python=platform.python_version(),
            date=datetime.now().astimezone().isoformat(timespec="seconds"),
        )


def weights_of(run: Run) -> Path:
    """Returns the file that identifies the weights: a checkpoint's record has all SHA-256 sums."""
    if run.step is None:
        return run.folder / WEIGHTS_FILE
    return best_checkpoint(run.folder)[0] / RECORD_FILE


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one measurement of one model: the content of a result file."""

    command: str
    measure: Measure
    origin: Origin
    figures: Figures
    seconds: float
    format_version: int = FORMAT_VERSION

    def write(self, folder: Path) -> Path:
        """Writes folder/evaluation/NAME.json, whole or not at all, and returns its path."""
        path = folder / RESULTS_FOLDER / f"{self.measure.name}.json"
        text = TypeAdapter(Result).dump_json(self, indent=2) + b"\n"
        write_whole(path, lambda part: part.write_bytes(text))
        return path


def write_rows(folder: Path, name: str, rows: Sequence[dict[str, object]]) -> None:
    """Writes folder/evaluation/NAME.items.jsonl, a line for each item."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(
        folder / RESULTS_FOLDER / f"{name}.items.jsonl",
        lambda part: part.write_text(text, encoding="utf-8", newline="\n"),
    )
