"""The result file: figures, and everything needed to reproduce them, as JSON in the run.

Previous: harness.py.  Next: report.py.
"""

import hashlib
import json
import platform
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

from evaluation.session import Run, Session
from run_directory.files import sha256, write_whole
from run_directory.weights import WEIGHTS_FILE
from tokenizer import TOKENIZER_FILE
from training.best_checkpoint import best_checkpoint
from training.checkpoint import RECORD_FILE

RESULTS_FOLDER = "evaluation"  # in the run directory
FORMAT_VERSION = 1
MAX_NAME = 150  # bytes of the name of a result file, without its endings; disks take 255
Figures = dict[str, float | int | None]
Row = dict[str, object]  # of one item


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The kind of measurement and the data that it is made on."""

    what: str  # text, lambada, hellaswag, exam, harness
    name: str  # of the files that are written
    about: str  # a description for people
    paths: tuple[str, ...]
    sha256: str | None  # of the text, or of the file with the items
    stride: int | None = None
    limit: int | None = None

    def identity(self) -> list[str | int | tuple[str, ...] | None]:
        """Returns what tells this measurement from another one with the same name."""
        source = self.sha256 or self.paths
        return [self.what, source, self.stride, self.limit]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one run has achieved on a task: the figures, and a row for each item."""

    name: str  # of the files that are written
    about: str  # a description for people
    figures: Figures
    rows: list[Row]
    to_read: str = ""  # the wrong answers below their questions, where people can read them


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


def named_apart(folder: Path, measure: Measure) -> Measure:
    """Returns a measure with a name under which the run has no result of another measurement.

    That is its own name, in letters that every disk takes, or, where a/test.txt has taken the name
    of b/test.txt, the name and a hash of what is measured. The same measurement has the same name.
    """
    visible = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "-" for c in measure.name)
    name = visible.encode()[:MAX_NAME].decode(errors="ignore")
    if name != visible:
        name += f"-{digest_of(measure)}"
    file = folder / RESULTS_FOLDER / f"{name}.json"
    with suppress(FileNotFoundError):
        try:
            other = TypeAdapter(Result).validate_json(file.read_bytes()).measure
        except ValidationError:
            other = None  # somebody else's file
        if other is None or other.identity() != measure.identity():
            name += f"-{digest_of(measure)}"
    return replace(measure, name=name)


def digest_of(measure: Measure) -> str:
    """Returns eight digits that stand for what is measured."""
    return hashlib.sha256(json.dumps(measure.identity()).encode()).hexdigest()[:8]


def write_items(folder: Path, name: str, scored: Scored) -> None:
    """Writes folder/evaluation/NAME.items.jsonl, a line for each item, and NAME.wrong.txt."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in scored.rows]
    texts = {f"{name}.items.jsonl": "".join(lines)}
    if scored.to_read:
        texts[f"{name}.wrong.txt"] = scored.to_read
    for file, text in texts.items():
        write_whole(
            folder / RESULTS_FOLDER / file,
            lambda part, text=text: part.write_text(text, encoding="utf-8", newline="\n"),
        )
