"""The state of a run: how far it has come, saved in checkpoints and read from them again.

A checkpoint holds all that the next step depends on, so a resumed run is the same run bit for bit.
Previous: micro_batch.py.  Next: ../trainer.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from rich.console import Console
from torch import Tensor

from cfg_gpt2 import RunConfig, require
from gpt2 import GPT2Model
from run_directory.weights import WEIGHTS_FILE, save_weights
from training.background import Background
from training.checkpoint import (
    Checkpoints,
    Record,
    RunIdentity,
    identity_of,
    restore,
    strip_prefix,
    tensors_of,
    trained_of,
)
from training.guard import Guard
from training.micro_batch import MicroBatches
from training.optimizer import Optimizers
from training.progress import Metrics, MetricsLog, draw_losses
from training.runtime import Runtime
from training.snapshots import Snapshots
from training.tensorboard_log import TensorBoardLog
from training.training_data import TrainingData
from training.units import Units, units_of
from training.validation_curve import ValidationCurve

Publish = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]


def as_they_are(trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights for model.safetensors without a change, where all of them are trained."""
    return trained


@dataclass(kw_only=True)
class RunState:
    """How far a run has come, with the objects whose state is saved and restored.

    Args:
        publish: what model.safetensors gets, made of the trained weights in main memory.
        further: what else must be the same for the run to be resumed, such as base weights' hash.
    """

    model: GPT2Model
    corpus: TrainingData
    config: RunConfig
    run_dir: Path
    runtime: Runtime
    console: Console
    optimizers: Optimizers
    micro_batches: MicroBatches
    publish: Publish = as_they_are
    further: Mapping[str, str] = field(default_factory=dict)
    step: int = 0  # optimizer steps that are done, those that were skipped too
    position: int = 0  # in the data: windows that were read
    tokens: int = 0  # targets that were learned from
    seconds: float = 0.0  # that the steps took, in earlier sessions of this run too
    val_loss: float | None = None  # in units.loss, where this step was evaluated
    saved_step: int = -1  # of the newest checkpoint

    def __post_init__(self) -> None:
        train = self.config.train
        self.guard = Guard(train.skip_spikes)
        self.checkpoints = Checkpoints(self.run_dir, train.keep_checkpoints, self.console.print)
        self.snapshots = Snapshots(self.run_dir, train.snapshots, train.max_steps)
        self.background = Background()  # writes checkpoints and snapshots
        self.log = MetricsLog(self.run_dir, writes=self.runtime.is_rank_zero)
        self.curve = ValidationCurve()
        has_scalars = train.tensorboard and self.runtime.is_rank_zero
        self.scalars = TensorBoardLog(self.run_dir) if has_scalars else None

    def record_metrics(self, metrics: Metrics) -> None:
        """Adds the metrics of a step to metrics.jsonl, to the curve and to TensorBoard."""
        self.log.append(metrics)
        self.curve.add(metrics)
        if self.scalars:
            self.scalars.append(metrics)

    def advance(self, n_windows: int) -> None:
        """Counts one optimizer step, for which n_windows were read."""
        self.step, self.position, self.val_loss = self.step + 1, self.position + n_windows, None

    @cached_property
    def units(self) -> Units:
        """What the numbers of this run stand for; first asked for once its directory is begun."""
        return units_of(self.run_dir)

    @cached_property
    def identity(self) -> RunIdentity:
        """What must not change from session to session."""
        return identity_of(
            self.config.model, self.config.train.optimizer, self.corpus, self.further
        )

    def record_validation(self, loss: float) -> None:
        """Keeps the validation loss of this step, in units.loss, for the next checkpoint.

        Raises ValueError where it is nan or infinite: such weights never become the run's.
        """
        self.val_loss = loss
        if math.isfinite(loss):
            return
        self.background.wait()
        require(
            self.step > 0,
            f"the validation loss is {loss} before the first step: the weights that the training "
            "begins with have diverged; begin with others",
        )
        kept = f"the weights of step {self.saved_step} are kept" if self.saved_step > 0 else ""
        raise ValueError(
            f"the training has diverged: after step {self.step} the validation loss is {loss}; "
            f"{kept or 'nothing was saved'}; {self.lower_rate()}"
        )

    def lower_rate(self) -> str:
        """Returns what to try where the learning rate was too high."""
        return f"try --train.learning-rate {self.config.train.learning_rate / 3:.2g}"

    def save(self) -> None:
        """Writes the checkpoint to resume from, the weights to use and the loss curve to look at.

        Tensors are copied to main memory; a thread writes them while training goes on. Raises
        ValueError or OSError, and writes the checkpoint alone, where they cannot be published.
        """
        if self.scalars:
            self.scalars.flush()
        record = self.record()
        tensors = self.runtime.copy_to_cpu(tensors_of(self.model, self.optimizers))
        trained = self.runtime.gather_full(strip_prefix("model/", tensors))
        is_saved, self.saved_step = self.saved_step == self.step, self.step

        def write_checkpoint() -> None:
            self.log.sync()
            if not is_saved:
                self.runtime.save(partial(self.checkpoints.save, record), tensors)

        def write(weights: Mapping[str, Tensor]) -> None:
            write_checkpoint()
            save_weights(self.run_dir, self.config.model, weights)
            size = sum(weight.numel() for weight in weights.values())
            draw_losses(self.run_dir, title=f"{self.run_dir.name}: {size:,} parameters")

        if not self.runtime.is_rank_zero:
            return self.background.start(write_checkpoint)
        try:  # in this thread: glibc gives another one no memory that a step has freed
            weights = self.publish(trained)
        except (ValueError, OSError):
            self.background.start(write_checkpoint)
            self.background.wait()
            raise
        self.background.start(partial(write, weights))

    def take_snapshot(self) -> None:
        """Writes what model.safetensors would get at this step, where a snapshot of it is due."""
        if self.step not in self.snapshots.steps:
            return
        trained = self.runtime.gather_full(self.runtime.copy_to_cpu(trained_of(self.model)))
        if self.runtime.is_rank_zero:
            write = partial(self.snapshots.write, self.step)
            self.background.start(partial(write, self.publish(trained)))

    def record(self) -> Record:
        """Returns the numbers of a checkpoint of this step."""
        return Record(
            step=self.step,
            windows=self.position,
            tokens=self.tokens,
            seconds=self.seconds,
            val_loss=self.val_loss,
            micro_batch=self.micro_batches.size,
            micro_batch_asked=self.config.train.micro_batch,
            guard=self.guard.state,
            n_ranks=self.runtime.ranks.n_ranks,
            identity=self.identity,
        )

    def resume(self) -> None:
        """Goes back to the newest checkpoint that is whole; a run that has none yet begins.

        Raises FileNotFoundError where there is no checkpoint, ValueError where none is whole or
        where it is another run's.
        """
        newest = self.runtime.on_rank_zero(self.newest_checkpoint)
        if newest is None:
            self.console.print(f"{self.run_dir} was stopped before its first checkpoint: anew")
            return
        path, record = newest
        record.identity.require_same(self.identity, self.run_dir)
        self.go_to(path, record)

    def newest_checkpoint(self) -> tuple[Path, Record] | None:
        """Returns the newest one that is whole; None where the run stopped before its first."""
        self.checkpoints.remove_unfinished()
        if not (self.checkpoints.paths() or (self.run_dir / WEIGHTS_FILE).exists()):
            return None
        return self.checkpoints.newest()

    def roll_back(self) -> None:
        """Goes back to the last good checkpoint, and on with the windows after the bad ones.

        Raises ValueError where that was tried already, or where there is no such checkpoint.
        """
        step, position = self.step, self.position
        failed = (
            f"{self.guard.state.n_bad} steps up to {step} had no finite loss and gradient, or a "
            "spike, and were not taken"
        )
        advice = self.lower_rate()
        self.background.wait()
        try:
            newest_good = partial(self.checkpoints.newest, good=True)
            path, record = self.runtime.on_rank_zero(newest_good)
        except FileNotFoundError:
            raise ValueError(f"{failed}; there is no checkpoint to go back to; {advice}") from None
        again = self.guard.state.returned_to == record.step
        require(not again, f"{failed}, from step {record.step} on for the second time; {advice}")
        self.go_to(path, record)
        self.position = position
        self.guard.record_rollback(record.step, step)
        self.console.print(f"{failed}: back to step {self.step}, and on with other windows")

    def go_to(self, path: Path, record: Record) -> None:
        """Puts a checkpoint into weights, optimizers, random states, position and log."""
        restore(self.runtime.read(path, self.model), self.model, self.optimizers)
        self.step, self.position, self.tokens = record.step, record.windows, record.tokens
        self.seconds, self.saved_step, self.val_loss = record.seconds, record.step, None
        self.guard.state = record.guard
        if record.micro_batch_asked == self.config.train.micro_batch:
            self.micro_batches.resize(record.micro_batch)
        self.forget_after(self.step)
        self.curve = ValidationCurve(self.log.read())
        if self.scalars:
            self.scalars.close()

    def forget_after(self, step: int) -> None:
        """Removes what was logged and kept of later steps, which are taken once more."""
        self.log.keep_until(step)
        if self.runtime.is_rank_zero:
            self.snapshots.keep_until(step)
