"""What the measurements of one command share, and the run that each of them opens.

Previous: command.py.  Next: measure_text.py.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cfg_gpt2 import GPT2Config, require
from gpt2 import GPT2Model
from run_directory.open_run import open_run
from tokenizer import Tokenizer
from training.best_checkpoint import load_best
from training.machine import total_memory
from training.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class Session:
    """The settings of one call of `evaluate` that hold for every kind of measurement."""

    command: str  # the command line, for the result file
    runtime: Runtime
    console: Console
    precision: str  # fp32 or bf16
    batch_size: int | None = None  # rows computed together; None: by the device
    best: bool = False  # whether the best weights of each run are measured, not the newest

    def require_memory(self, sizes: GPT2Config) -> None:
        """Raises ValueError for rows whose tokens and hidden states no memory here holds."""
        there, device = total_memory(self.runtime.device), self.runtime.device.type
        row = sizes.context_length * (16 + 8 * sizes.n_embd)
        require(
            not there or (self.batch_size or 1) * row <= there,
            f"--batch-size {self.batch_size} takes more than the {there // 10**6:,} MB of the "
            f"{device}; at most {there // row} fits, or leave it out",
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """An opened run directory, whose model is on the device."""

    folder: Path
    model: GPT2Model
    tokenizer: Tokenizer
    step: int | None = None  # of the weights, where they are the best ones and not the newest

    @classmethod
    def open(cls, folder: Path, session: Session) -> "Run":
        """Opens a run directory.

        Raises FileNotFoundError or ValueError where it is no run, or --batch-size is beyond memory.
        """
        (model, tokenizer), step = open_run(folder), None
        session.require_memory(model.config)
        if session.best:
            model, record = load_best(folder)
            step = record.step
        model = session.runtime.prepare(model)
        return cls(folder=folder, model=model, tokenizer=tokenizer, step=step)

    def result_name(self, measure: str) -> str:
        """Returns the name of a result file, which tells the best weights from the newest."""
        return measure if self.step is None else f"{measure}-best"

    def describe(self) -> str:
        """Returns the name and the sizes of the model as one phrase."""
        sizes = self.model.config
        return (
            f"{self.folder}: {self.model.n_parameters():,} parameters, "
            f"context {sizes.context_length}, {sizes.vocab_size:,} tokens"
            + ("" if self.step is None else f"; weights of step {self.step}, the best")
        )
