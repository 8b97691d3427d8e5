"""EvaluateCommand: the settings of `evaluate`, made from its flags before torch is imported.

Previous: ../main.py.  Next: command.py.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from cfg_gpt2 import require, require_count
from commands.flags import parse_flags
from run_directory.printable import main_command


@dataclass(frozen=True, kw_only=True)
class TextFlags:
    """The flags that choose the text to score."""

    path: tuple[str, ...] | None = None
    """text files, folders, globs or a built-in world; None: what the run kept apart from its own
    data to be measured on"""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand:
    """Measure a model: on a text by a sliding window, or on a task."""

    run: tyro.conf.Positional[Path | None] = None  # a run directory, such as runs/tiny
    best: bool = False  # the weights with the lowest validation loss, not the newest
    compare: tuple[Path, ...] | None = None  # more runs: one table and one picture for all
    data: TextFlags = field(default_factory=TextFlags)
    stride: int | None = None
    """tokens by which the window moves on; None: the model's context, windows side by side; the
    smaller, the more context, the more work"""
    task: tuple[str, ...] | None = None
    """lambada or hellaswag, and its JSONL file, which is downloaded where none is named;
    tiny-questions or tiny-questions-ru; or a file of questions with their answers"""
    harness: tuple[str, ...] | None = None  # tasks of lm-evaluation-harness, by its names
    harness_path: Path | None = None  # a folder with more tasks for it
    limit: int | None = None  # items of a task that are scored; None: all
    batch_size: int | None = None
    """windows or items computed together; None: as many as have 4096 tokens, on a GPU 65536"""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a GPU where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """of the matrix products; bf16 is faster where the device has instructions for it"""
    command_line: Annotated[str, tyro.conf.Suppress] = ""  # as typed, for the result

    def __post_init__(self) -> None:
        several = {
            "compare": self.compare,
            "data.path": self.data.path,
            "task": self.task,
            "harness": self.harness,
        }
        for name, given in several.items():
            require(
                given != (), f"--{name} is followed by nothing; name something, or leave it out"
            )
        require(len(self.runs) > 0, "evaluate needs a run directory; name one, such as runs/tiny")
        for run in self.runs:
            require(self.runs.count(run) == 1, f"{run} is named twice; compare different runs")
        for name in ("stride", "limit", "batch_size"):
            value: int | None = getattr(self, name)
            if value is not None:
                require_count("--" + name.replace("_", "-"), value)
        self.require_one_measure()

    def require_one_measure(self) -> None:
        """Raises ValueError for flags that belong to different kinds of measurement."""
        require(
            not (self.task and self.harness),
            "--task and --harness exclude each other; choose one",
        )
        items = "--task" if self.task else "--harness" if self.harness else None
        for flag, given in (("--data.path", self.data.path), ("--stride", self.stride)):
            require(
                items is None or given is None,
                f"{flag} is for a text and {items} brings its own; choose one",
            )
        require(
            items is not None or self.limit is None,
            f"--limit {self.limit} is for --task and --harness; a text is scored as a whole",
        )
        require(
            self.harness_path is None or self.harness is not None,
            f"--harness-path {self.harness_path} is for --harness; name a task of it as well",
        )
        require(
            not (self.harness and self.compare),
            "--harness and --compare exclude each other; run the harness once for each run",
        )

    @property
    def runs(self) -> list[Path]:
        """The run directories that are measured, in the order in which they were named."""
        return [*([self.run] if self.run else []), *(self.compare or ())]


def read_evaluate_command(arguments: list[str]) -> EvaluateCommand:
    """Returns the settings of `evaluate`. Raises ValueError where flags are wrong."""
    command = parse_flags(EvaluateCommand, "evaluate", arguments)
    return replace(command, command_line=main_command("evaluate", *arguments))
