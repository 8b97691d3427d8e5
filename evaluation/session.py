"""What the measurements of one command share, and the run that each of them opens.

Previous: command.py.  Next: measure_text.py.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gpt2 import GPT2Model
from run_directory.open_run import open_run
from tokenizer import Tokenizer
from training.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class Session:
    """The settings of one call of `evaluate` that hold for every kind of measurement."""

    command: str  # the command line, for the result file
    runtime: Runtime
    console: Console
    precision: str  # fp32 or bf16
    batch_size: int | None = None  # rows computed together; None: by the device


@dataclass(frozen=True, kw_only=True)
class Run:
    """An opened run directory, whose model is on the device."""

    folder: Path
    model: GPT2Model
    tokenizer: Tokenizer

    @classmethod
    def open(cls, folder: Path, runtime: Runtime) -> "Run":
        """Opens a run directory. Raises FileNotFoundError or ValueError where it is no run."""
        model, tokenizer = open_run(folder)
        return cls(folder=folder, model=runtime.prepare(model), tokenizer=tokenizer)

    def describe(self) -> str:
        """Returns the name and the sizes of the model as one phrase."""
        sizes = self.model.config
        return (
            f"{self.folder}: {self.model.n_parameters():,} parameters, "
            f"context {sizes.context_length}, {sizes.vocab_size:,} tokens"
        )
