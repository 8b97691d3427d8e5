"""The training loop: read a batch, measure the surprise, walk down the gradient, again.

    gradient = sum over micro-batches of d(sum of losses) / (count of targets in all of them)

The count is divided by once, after the last micro-batch, so a step is the same however it is
cut into micro-batches. What is measured is read before the weights are moved: a step that would
harm them is not taken (training/guard.py).
Previous: generation.py and training/.  Next: main.py.
"""

import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from cfg_gpt2 import RunConfig, require
from gpt2 import GPT2Model
from load_data import Corpus, Split, evaluation_batches
from loss import bits_per_byte, next_token_loss, perplexity
from run_directory.weights import WEIGHTS_FILE, save_weights
from training.background import Background
from training.checkpoint import (
    Checkpoints,
    Record,
    RunIdentity,
    below,
    identity_of,
    restore,
    tensors_of,
)
from training.guard import Guard, describe
from training.micro_batch import MemoryNeed, measure_need
from training.optimizer import make_optimizers, step_optimizers
from training.progress import Bar, Metrics, MetricsLog, draw_losses
from training.random_state import random_states, set_random_states
from training.runtime import Batch, LossFunction, Runtime, blank
from training.schedule import learning_rate
from training.stop_signal import stop_signal

SMALLER = "try a smaller --model.context-length, or --train.device cpu"


def language_model_loss(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
    """Returns the sum of losses in nats, the number of targets, and no further metrics."""
    tokens, targets = batch
    return *next_token_loss(model(tokens), targets), {}


@dataclass(frozen=True)
class Evaluation:
    """What the model pays for the whole validation split."""

    nats_per_token: float
    bits_per_byte: float

    def describe(self, floor: float | None) -> str:
        """One line, with the distance to the floor where it is known."""
        line = (
            f"validation {self.nats_per_token:.4f} nats a token, "
            f"{self.bits_per_byte:.4f} bits per byte, "
            f"perplexity {perplexity(self.nats_per_token):.2f}"
        )
        if floor is None:
            return line
        return f"{line}; {100 * (self.bits_per_byte / floor - 1):.1f}% above the floor {floor:.4f}"


class Trainer:
    """Trains a model on a corpus and leaves everything in the run directory."""

    def __init__(
        self,
        model: GPT2Model,
        corpus: Corpus,
        config: RunConfig,
        run_dir: Path,
        runtime: Runtime,
        console: Console,
        loss_fn: LossFunction = language_model_loss,
    ) -> None:
        self.model = runtime.prepare(model)
        self.corpus = corpus
        self.model_config, self.config = config.model, config.train
        self.run_dir, self.runtime, self.console = run_dir, runtime, console
        self.objective = runtime.objective(model, loss_fn)  # a batch -> its loss
        context_length = config.model.context_length
        self.windows = corpus.windows(context_length, self.config.seed)
        self.optimizers = make_optimizers(model, self.config, runtime.precision)
        self.micro_batch = self.choose_micro_batch()
        self.guard = Guard(self.config.skip_spikes)
        self.checkpoints = Checkpoints(run_dir, self.config.keep_checkpoints, console.print)
        self.background = Background()  # where checkpoints are written
        self.log = MetricsLog(run_dir, writes=runtime.is_first)
        self.step = 0  # optimizer steps that are done, those among them that were not taken too
        self.position = 0  # in the data: windows that were read
        self.tokens = 0  # targets that were learned from
        self.seconds = 0.0  # that the steps took, in earlier sessions of this run too
        self.saved_step = -1  # of the newest checkpoint
        self.stopped_by = 0  # the number of the signal that has ended train()
        self.batches = self.micro_batches()
        self.evaluation: Evaluation | None = None
        self.evaluated_step = -1

    def train(self) -> bool:
        """Runs until max_steps -> True, or until a signal -> False; the run is saved either way."""
        started = time.monotonic() - self.seconds
        bar = Bar(self.console, "training", self.config.max_steps, done=self.step)
        with bar, stop_signal() as stop:
            if self.step == 0:
                self.log.keep_until(-1)
                self.report(bar, {"step": 0, "tokens": 0, "seconds": 0.0} | self.evaluate())
            self.stopped_by = self.runtime.agree(stop.number)
            while self.step < self.config.max_steps and not self.stopped_by:
                metrics = self.take_step()
                due = self.step % self.config.eval_every == 0
                if due or self.step == self.config.max_steps:
                    metrics |= self.evaluate()
                self.seconds = time.monotonic() - started
                metrics["seconds"] = round(self.seconds, 3)
                self.report(bar, metrics)
                if self.guard.state.n_bad >= self.config.max_bad_steps:
                    self.roll_back()
                elif due and self.step < self.config.max_steps:
                    self.save()
                self.background.check()
                self.stopped_by = self.runtime.agree(stop.number)
            self.save()  # here, so that no moment of a signal can slip past it
            self.background.wait()
        return self.step >= self.config.max_steps

    def take_step(self) -> Metrics:
        """One optimizer step on the next batch_size windows -> what was measured."""
        started = time.perf_counter()
        self.model.train()
        rate = learning_rate(self.step, self.config)
        total, count, extra = self.add_gradients()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = self.runtime.norm(gradients) / count
        clip = (self.config.grad_clip / norm).clamp(max=1) if self.config.grad_clip else 1
        self.step, self.position = self.step + 1, self.position + self.config.batch_size
        self.batches = self.micro_batches()  # of the next step, while a GPU is busy with this one
        nats, n_targets, grad_norm = torch.stack([total, count, norm]).tolist()  # waits for it
        notes = self.guard.judge(nats / n_targets, grad_norm)
        if "skipped" in notes:
            self.model.zero_grad(set_to_none=True)
        else:
            step_optimizers(self.optimizers, rate, divisor=count / clip)
            self.tokens += int(n_targets)
        return (
            {
                "step": self.step,
                "train_loss": nats / n_targets,
                "train_bits_per_byte": self.train_bits_per_byte(nats / n_targets),
                "learning_rate": rate,
                "grad_norm": grad_norm,
                "tokens": self.tokens,
                "tokens_per_second": round(n_targets / (time.perf_counter() - started), 1),
            }
            | extra
            | notes
        )

    def add_gradients(self) -> tuple[Tensor, Tensor, Metrics]:
        """The gradients of this step's summed loss -> the sum, the count, what else to log.

        Where a GPU's memory does not hold a micro-batch, half of it or less is tried, to the end
        of the run. Raises ValueError where not even one window fits.
        """
        while True:
            before = random_states()
            try:
                return self.add_micro_batches()
            except torch.OutOfMemoryError:
                pass  # here its traceback would still hold what was computed
            require(
                self.runtime.ranks.n_ranks == 1,
                f"memory is short in process {self.runtime.ranks.rank}; go on with --resume and "
                f"--train.micro-batch {max(1, self.micro_batch // 2)}",
            )  # the others wait for it inside their own steps
            self.model.zero_grad(set_to_none=True)
            size, need = self.micro_batch, self.memory_need()
            words = need.describe(size) if need else "not even two windows fit at a time"
            require(size > 1, f"one window does not fit into memory: {words}; {SMALLER}")
            fitting = need.micro_batch(self.config.batch_size) if need else 1
            self.micro_batch = min(size // 2, fitting)
            self.console.print(
                f"memory is short: {words}; going on with --train.micro-batch {self.micro_batch}, "
                f"a step stays {self.config.batch_size} windows"
            )
            set_random_states(before)
            self.batches = self.micro_batches()

    def choose_micro_batch(self) -> int:
        """Windows that go through the model at a time."""
        if self.config.micro_batch != "auto":
            return self.config.micro_batch or self.share
        require(
            self.runtime.ranks.n_ranks == 1,
            "--train.micro-batch auto is for one process; for several give a number",
        )
        need = self.memory_need()
        if need is None:
            return 1
        size = need.micro_batch(self.config.batch_size)
        self.console.print(f"memory    {need.describe(size)}: --train.micro-batch {size}")
        return size

    def memory_need(self) -> MemoryNeed | None:
        """What a step takes, and what there is; None where not even two windows fit."""

        def loss(n_windows: int) -> Tensor:
            length = self.model_config.context_length
            tokens = torch.zeros(n_windows, length, dtype=torch.int64)
            with self.runtime.autocast():
                return self.objective(self.on_device((tokens, tokens)))[0]

        self.model.train()
        return measure_need(self.model, loss, has_stepped=bool(self.optimizers[0].state))

    def add_micro_batches(self) -> tuple[Tensor, Tensor, Metrics]:
        """Forward and backward for each micro-batch, without waiting for a GPU in between."""
        sums, counts = [], []
        extra: Metrics = {}
        for number, batch in enumerate(self.batches, start=1):
            self.runtime.synchronize(self.objective, now=number == len(self.batches))
            with self.runtime.autocast():
                total, count, extra = self.objective(self.on_device(batch))
            total.backward()
            sums.append(total.detach())
            counts.append(count)
        total, count = torch.stack(sums).sum(), torch.stack(counts).sum()
        total, count = self.runtime.total(torch.stack([total, count.to(total.dtype)])).unbind()
        return total, count, extra

    @property
    def share(self) -> int:
        """Windows of a step that one process takes, at most."""
        return -(-self.config.batch_size // self.runtime.ranks.n_ranks)

    def micro_batches(self) -> list[Batch]:
        """The windows of this step, in portions that fit into memory."""
        n_windows, together = self.config.batch_size, self.micro_batch * self.runtime.ranks.n_ranks
        return [
            self.portion(self.position + done, min(together, n_windows - done))
            for done in range(0, n_windows, together)
        ]

    def portion(self, first: int, count: int) -> Batch:
        """What this process takes of `count` windows: each n-th for n processes, or a blank."""
        rank, n_ranks = self.runtime.ranks.rank, self.runtime.ranks.n_ranks
        own = range(first, first + count)[rank::n_ranks]
        if not own:
            return blank(self.windows.batch(first, 1))
        return self.windows.batch(own.start, len(own), step=n_ranks)

    @torch.no_grad()  # not inference_mode: FSDP2 allocates once what the steps use too
    def evaluate(self) -> Metrics:
        """The loss over the whole validation split, every document read from its start."""
        self.model.eval()
        nats, count = 0.0, 0
        split = self.corpus.validation
        batches = evaluation_batches(
            split,
            self.model_config.context_length,
            self.micro_batch,
            self.corpus.tokenizer.end_of_text,
        )
        for batch in self.runtime.share(batches):
            with self.runtime.autocast():
                total, n_targets, _ = self.objective(self.on_device(batch))
            nats, count = nats + total.item(), count + int(n_targets)
        sums = torch.tensor([nats, count], dtype=torch.float64)
        nats, count = self.runtime.total(sums).tolist()
        self.evaluation = Evaluation(nats / count, bits_per_byte(nats, split.n_bytes))
        self.evaluated_step = self.step
        metrics = {
            "val_loss": self.evaluation.nats_per_token,
            "val_bits_per_byte": self.evaluation.bits_per_byte,
        }
        if self.corpus.floor_bits_per_byte is not None:
            metrics["floor_bits_per_byte"] = self.corpus.floor_bits_per_byte
        return metrics

    def report(self, bar: Bar, metrics: Metrics) -> None:
        """To metrics.jsonl, to the bar and, after an evaluation, to the screen."""
        self.log.append(metrics)
        if "skipped" in metrics or "spike" in metrics:
            self.console.print(f"step {self.step:>5}  {describe(metrics)}")
        if "train_loss" in metrics:
            speed = f"{metrics['tokens_per_second']:,.0f} tokens/s"
            bits = f"{metrics['train_bits_per_byte']:.3f} bits per byte"
            bar.move(self.step, f"loss {metrics['train_loss']:.3f} ({bits})  {speed}")
        if "val_loss" in metrics and self.evaluation:
            line = self.evaluation.describe(self.corpus.floor_bits_per_byte)
            self.console.print(f"step {self.step:>5}  {line}")

    def save(self) -> None:
        """The checkpoint to go on from, the weights to use, the picture to look at.

        Tensors are copied; a thread writes them while training goes on.
        """
        record = self.record()
        tensors = self.runtime.copied(tensors_of(self.model, self.optimizers))
        weights = self.runtime.whole(below("model/", tensors))
        is_saved, self.saved_step = self.saved_step == self.step, self.step

        def write() -> None:
            self.log.sync()
            if not is_saved:
                self.runtime.save(partial(self.checkpoints.save, record), tensors)
            if not self.runtime.is_first:
                return
            save_weights(self.run_dir, self.model_config, weights)
            size = f"{self.model.n_parameters():,} parameters"
            draw_losses(self.run_dir, title=f"{self.run_dir.name}: {size}")

        self.background.start(write)

    def resume(self) -> None:
        """Goes back to the newest checkpoint that is whole; a run that has none yet begins.

        Raises FileNotFoundError or ValueError where there is nothing to go on with, or where it
        is another run's.
        """
        found = self.runtime.first(self.newest_checkpoint)
        if found is None:
            self.console.print(f"{self.run_dir} was stopped before its first checkpoint: anew")
            return
        place, record = found
        record.identity.require_same(self.identity, self.run_dir)
        self.go_to(place, record)

    def newest_checkpoint(self) -> tuple[Path, Record] | None:
        """The newest one that is whole; None where the run was stopped before its first."""
        if not (self.checkpoints.found() or (self.run_dir / WEIGHTS_FILE).exists()):
            return None
        return self.checkpoints.newest()

    def roll_back(self) -> None:
        """Back to the last good checkpoint, and on with the windows after the bad ones.

        Raises ValueError where that was tried already, or where there is no such checkpoint.
        """
        step, position = self.step, self.position
        failed = (
            f"{self.guard.state.n_bad} steps up to {step} had no finite loss and gradient, or a "
            "spike, and were not taken"
        )
        advice = f"try --train.learning-rate {self.config.learning_rate / 3:.2g}"
        self.background.wait()
        try:
            place, record = self.runtime.first(partial(self.checkpoints.newest, good=True))
        except FileNotFoundError:
            raise ValueError(f"{failed}; there is no checkpoint to go back to; {advice}") from None
        again = self.guard.state.returned_to == record.step
        require(not again, f"{failed}, from step {record.step} on for the second time; {advice}")
        self.go_to(place, record)
        self.position = position
        self.guard.note_return(record.step, step)
        self.batches = self.micro_batches()
        self.console.print(f"{failed}: back to step {self.step}, and on with other windows")

    def go_to(self, place: Path, record: Record) -> None:
        """Puts a checkpoint into weights, optimizers, random states, position and log."""
        restore(self.runtime.read(place, self.model), self.model, self.optimizers)
        self.step, self.position, self.tokens = record.step, record.windows, record.tokens
        self.seconds, self.saved_step = record.seconds, record.step
        self.guard.state = record.guard
        if record.micro_batch_asked == self.config.micro_batch:
            self.micro_batch = min(record.micro_batch, self.share)
        self.batches = self.micro_batches()
        self.log.keep_until(self.step)

    def record(self) -> Record:
        """Where the run is."""
        val_loss = None
        if self.evaluation and self.evaluated_step == self.step:
            val_loss = self.evaluation.nats_per_token
        return Record(
            step=self.step,
            windows=self.position,
            tokens=self.tokens,
            seconds=self.seconds,
            val_loss=val_loss,
            micro_batch=self.micro_batch,
            micro_batch_asked=self.config.micro_batch,
            guard=self.guard.state,
            n_ranks=self.runtime.ranks.n_ranks,
            identity=self.identity,
        )

    @cached_property
    def identity(self) -> RunIdentity:
        """What must not change from session to session."""
        return identity_of(self.model_config, self.config.optimizer, self.corpus)

    def train_bits_per_byte(self, nats_per_token: float) -> float:
        """The training loss in bits per byte, at the training split's tokens per byte."""
        split: Split = self.corpus.train
        return bits_per_byte(nats_per_token * (len(split.tokens) - 1), split.n_bytes)

    def on_device(self, batch: Batch) -> Batch:
        tokens, targets = map(self.runtime.to_device, batch)
        return tokens, targets
