"""The training loop: read a batch, measure the surprise, walk down the gradient, again.

    gradient = sum over micro-batches of d(sum of losses) / (count of targets in all of them)

The count is divided by once, after the last micro-batch, so a step is the same however it is
cut into micro-batches.
Read before: generation.py and training/.  Read next: main.py.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from rich.console import Console
from torch import Tensor

from cfg_gpt2 import RunConfig, require
from gpt2 import GPT2Model
from load_data import Corpus, Split, Windows, evaluation_batches
from loss import bits_per_byte, head_loss, perplexity
from training.checkpoint import (
    load_checkpoint,
    random_states,
    save_checkpoint,
    set_random_states,
)
from training.optimizer import make_optimizers, step_optimizers
from training.progress import Bar, Metrics, MetricsLog, draw_losses
from training.runtime import Runtime
from training.schedule import learning_rate

Batch = tuple[Tensor, Tensor]  # tokens and targets, both (B, T)
LossFunction = Callable[[GPT2Model, Batch], tuple[Tensor, Tensor, Metrics]]


def language_model_loss(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
    """-> the summed loss in nats, the count of targets, and nothing else to log."""
    tokens, targets = batch
    return *head_loss(model.features(tokens), model.lm_head.weight, targets), {}


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
        self.loss_fn = loss_fn
        context_length = config.model.context_length
        end_of_text = corpus.tokenizer.end_of_text
        self.windows = Windows(corpus.train, context_length, self.config.seed, end_of_text)
        self.micro_batch = self.config.micro_batch or self.config.batch_size
        self.optimizers = make_optimizers(model, self.config, runtime.precision)
        self.log = MetricsLog(run_dir)
        self.step = 0  # optimizer steps that are done
        self.tokens = 0  # targets that they learned from
        self.seconds = 0.0  # that they took, in earlier sessions of this run too
        self.batches = self.micro_batches()
        self.evaluation: Evaluation | None = None

    def resume(self) -> None:
        """Goes back to the newest checkpoint: weights, optimizer, random states, step, log."""
        position = load_checkpoint(self.run_dir, self.model, self.optimizers)
        self.step, self.tokens = int(position["step"]), int(position["tokens"])
        self.seconds = position["seconds"]
        self.batches = self.micro_batches()
        self.log.keep_until(self.step)

    def train(self) -> bool:
        """Runs until max_steps -> True, or until Ctrl-C -> False; the run is saved either way."""
        started = time.monotonic() - self.seconds
        bar = Bar(self.console, "training", self.config.max_steps, done=self.step)
        with bar, stop_signal() as stop:
            if self.step == 0:
                self.log.keep_until(-1)
                self.report(bar, {"step": 0, "tokens": 0, "seconds": 0.0} | self.evaluate())
            while self.step < self.config.max_steps and not stop.requested:
                metrics = self.take_step()
                due = self.step % self.config.eval_every == 0
                if due or self.step == self.config.max_steps:
                    metrics |= self.evaluate()
                self.seconds = time.monotonic() - started
                metrics["seconds"] = round(self.seconds, 3)
                self.report(bar, metrics)
                if due and self.step < self.config.max_steps:
                    self.save()
            self.save()  # here, so that no moment of Ctrl-C can slip past it
        return self.step >= self.config.max_steps

    def take_step(self) -> Metrics:
        """One optimizer step on the next batch_size windows -> what was measured."""
        started = time.perf_counter()
        self.model.train()
        rate = learning_rate(self.step, self.config)
        total, count, extra = self.add_gradients()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) / count
        clip = (self.config.grad_clip / norm).clamp(max=1) if self.config.grad_clip else 1
        step_optimizers(self.optimizers, rate, divisor=count / clip)
        self.step += 1
        self.batches = self.micro_batches()  # of the next step, while a GPU is busy with this one
        nats, n_targets, grad_norm = torch.stack([total, count, norm]).tolist()  # waits for it
        self.tokens += int(n_targets)
        return {
            "step": self.step,
            "train_loss": nats / n_targets,
            "train_bits_per_byte": self.train_bits_per_byte(nats / n_targets),
            "learning_rate": rate,
            "grad_norm": grad_norm,
            "tokens": self.tokens,
            "tokens_per_second": round(n_targets / (time.perf_counter() - started), 1),
        } | extra

    def add_gradients(self) -> tuple[Tensor, Tensor, Metrics]:
        """The gradients of this step's summed loss -> the sum, the count, what else to log.

        Where a GPU's memory does not hold a micro-batch, half of it is tried, to the end of the
        run. Raises ValueError where not even one window fits.
        """
        while True:
            before = random_states()
            try:
                return self.add_micro_batches()
            except torch.OutOfMemoryError:
                size = self.micro_batch // 2
                require(size > 0, "one window does not fit into memory; --train.device cpu may")
                self.console.print(f"memory is short: going on with --train.micro-batch {size}")
                self.micro_batch = size
            set_random_states(before)
            self.model.zero_grad(set_to_none=True)
            self.batches = self.micro_batches()

    def add_micro_batches(self) -> tuple[Tensor, Tensor, Metrics]:
        """Forward and backward for each micro-batch, without waiting for a GPU in between."""
        sums, counts = [], []
        extra: Metrics = {}
        for batch in self.batches:
            with self.runtime.autocast():
                total, count, extra = self.loss_fn(self.model, self.on_device(batch))
            total.backward()
            sums.append(total.detach())
            counts.append(count)
        return torch.stack(sums).sum(), torch.stack(counts).sum().to(sums[0].dtype), extra

    def micro_batches(self) -> list[Batch]:
        """The windows of this step, in portions that fit into memory."""
        first, n_windows = self.step * self.config.batch_size, self.config.batch_size
        return [
            self.windows.batch(first + done, min(self.micro_batch, n_windows - done))
            for done in range(0, n_windows, self.micro_batch)
        ]

    @torch.inference_mode()
    def evaluate(self) -> Metrics:
        """The loss over the whole validation split, every document read from its start."""
        self.model.eval()
        nats, count = 0.0, 0
        split = self.corpus.validation
        for batch in evaluation_batches(
            split,
            self.model_config.context_length,
            self.micro_batch,
            self.corpus.tokenizer.end_of_text,
        ):
            with self.runtime.autocast():
                total, n_targets, _ = self.loss_fn(self.model, self.on_device(batch))
            nats, count = nats + total.item(), count + int(n_targets)
        self.evaluation = Evaluation(nats / count, bits_per_byte(nats, split.n_bytes))
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
        if "train_loss" in metrics:
            speed = f"{metrics['tokens_per_second']:,.0f} tokens/s"
            bits = f"{metrics['train_bits_per_byte']:.3f} bits per byte"
            bar.move(self.step, f"loss {metrics['train_loss']:.3f} ({bits})  {speed}")
        if "val_loss" in metrics and self.evaluation:
            line = self.evaluation.describe(self.corpus.floor_bits_per_byte)
            self.console.print(f"step {self.step:>5}  {line}")

    def save(self) -> None:
        """The checkpoint to go on from, the weights to use, the picture to look at."""
        position = {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}
        save_checkpoint(self.run_dir, position, self.model, self.optimizers)
        self.model.save(self.run_dir)
        size = f"{self.model.n_parameters():,} parameters"
        draw_losses(self.run_dir, title=f"{self.run_dir.name}: {size}")

    def train_bits_per_byte(self, nats_per_token: float) -> float:
        """The training loss in bits per byte, at the training split's tokens per byte."""
        split: Split = self.corpus.train
        return bits_per_byte(nats_per_token * (len(split.tokens) - 1), split.n_bytes)

    def on_device(self, batch: Batch) -> Batch:
        tokens, targets = map(self.runtime.to_device, batch)
        return tokens, targets


@dataclass
class StopSignal:
    """Whether the user has asked to stop after this step."""

    requested: bool = False


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Inside this context the first Ctrl-C asks to stop, the second one stops at once."""
    stop = StopSignal()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
