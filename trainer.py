"""The training loop: forward, backward, clip, step.

    gradient = sum over micro-batches of d(sum of losses) / (number of targets in all of them)

The division by the number of targets comes once, after the last micro-batch, so a step is the
same however it is cut into micro-batches. Loss and gradient norm are read before the weights
change: a step that would harm them is skipped (training/guard.py).
Previous: generation.py and training/.  Next: main.py.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from cfg_gpt2 import RunConfig
from gpt2 import GPT2Model
from loss import bits_per_byte, next_token_loss
from training.checkpoint import identity_of_frozen
from training.guard import describe_flags
from training.micro_batch import MicroBatches, shrink_when_out_of_memory
from training.optimizer import make_optimizers, step_optimizers
from training.progress import Bar, Metrics
from training.run_state import Publish, RunState, as_they_are
from training.runtime import Batch, LossFunction, Runtime
from training.schedule import learning_rate
from training.stop_signal import stop_signal
from training.sums import TOKENS, Sums, means, together
from training.training_data import TrainingData
from training.units import describe_evaluation, describe_step


def language_model_loss(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
    """Returns the sum of the losses in nats, the number of targets, and no further sums."""
    tokens, targets = batch
    return *next_token_loss(model(tokens), targets), {}


class Trainer:
    """Trains a model on a corpus and leaves everything in the run directory.

    Args:
        corpus: what to learn from, such as load_data.Corpus.
        loss_fn: the loss of a batch as a sum and a count, with further sums to log, each divided
            by the count. A batch is a tuple of tensors, the last of which holds the targets; only
            the loss unpacks it.
        publish: what model.safetensors gets, made of the trained weights.
        further: what else must be the same for the run to be resumed, such as base weights' hash.
        advise: a sentence about the metrics of an evaluation that people should be told.
    """

    def __init__(
        self,
        model: GPT2Model,
        corpus: TrainingData,
        config: RunConfig,
        run_dir: Path,
        runtime: Runtime,
        console: Console,
        loss_fn: LossFunction = language_model_loss,
        publish: Publish = as_they_are,
        further: Mapping[str, str] | None = None,
        advise: Callable[[Metrics], str | None] = lambda metrics: None,
    ) -> None:
        further = identity_of_frozen(model) | dict(further or {})  # before FSDP shards them
        self.model = runtime.prepare(model)
        self.corpus = corpus
        self.model_config, self.config = config.model, config.train
        self.run_dir, self.runtime, self.console = run_dir, runtime, console
        self.objective = runtime.objective(model, loss_fn)  # a batch -> its loss
        self.windows = corpus.windows(config.model.context_length, self.config.seed)
        self.optimizers = make_optimizers(model, self.config, runtime.precision)
        self.advise = advise
        self.micro_batches = MicroBatches(
            self.windows, self.forward, model, self.optimizers, config, runtime, console
        )
        self.state = RunState(
            model=model,
            corpus=corpus,
            config=config,
            run_dir=run_dir,
            runtime=runtime,
            console=console,
            optimizers=self.optimizers,
            micro_batches=self.micro_batches,
            publish=publish,
            further=further,
        )
        self.stopped_by = 0  # the number of the signal that has ended train()

    def train(self) -> bool:
        """Trains until max_steps and returns True, or until a signal and returns False.

        The run is saved either way.
        """
        state, max_steps = self.state, self.config.max_steps
        started = time.monotonic() - state.seconds
        bar = Bar(self.console, "training", max_steps, done=state.step)
        with bar, stop_signal(self.console) as stop:
            if state.step == 0:
                state.forget_after(-1)
                self.report(bar, {"step": 0, "tokens": 0, "seconds": 0.0} | self.evaluate())
            self.stopped_by = self.runtime.all_reduce_max(stop.number)
            while state.step < max_steps and not self.stopped_by:
                metrics = self.take_step()
                is_due = state.step % self.config.eval_every == 0
                if is_due or state.step == max_steps:
                    metrics |= self.evaluate()
                state.seconds = time.monotonic() - started
                metrics["seconds"] = round(state.seconds, 3)
                self.report(bar, metrics)
                if state.guard.state.n_bad >= self.config.max_bad_steps:
                    state.roll_back()
                elif is_due and state.step < max_steps:
                    state.save()
                state.background.check()
                self.stopped_by = self.runtime.all_reduce_max(stop.number)
            state.save()  # inside stop_signal, so that a signal now does not end the save
            state.background.wait()
        return state.step >= max_steps

    @shrink_when_out_of_memory
    def take_step(self) -> Metrics:
        """Takes one optimizer step on the next batch_size windows and returns its metrics."""
        started, state = time.perf_counter(), self.state
        rate = learning_rate(state.step, self.config)
        batches = self.micro_batches.at(state.position)
        sums, further = [], Sums()
        self.model.train()
        for batch in batches:
            self.runtime.sync_gradients(self.objective, now=batch is batches[-1])
            loss, count, further = self.forward(batch)
            loss.backward()
            sums.append(together(loss.detach(), count, further))
        totals = self.runtime.all_reduce_sum(torch.stack(sums).sum(0))
        n_targets = totals[1]
        grad_norm = self.runtime.grad_norm(self.model) / n_targets
        clip = (self.config.grad_clip / grad_norm).clamp(max=1) if self.config.grad_clip else 1
        state.advance(self.config.batch_size)
        self.micro_batches.prefetch(state.position)
        norm, nats, n, *values = torch.cat([grad_norm[None], totals]).tolist()  # waits for a GPU
        n_tokens = dict(zip(further, values, strict=True)).get(TOKENS, n)
        flags = state.guard.check(nats / n, norm)
        if "skipped" in flags:
            self.model.zero_grad(set_to_none=True)
        else:
            step_optimizers(self.optimizers, rate, grad_scale=n_targets / clip)
            state.tokens += int(n_tokens)
        return {
            "step": state.step,
            "train_loss": nats / n,
            **self.train_bits_per_byte(nats / n),
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens": state.tokens,
            "tokens_per_second": round(n_tokens / (time.perf_counter() - started), 1),
            **means(further, values, n),
            **flags,
        }

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
        """Returns the sum of the losses of a batch, the number of its targets, further sums."""
        on_device = tuple(map(self.runtime.to_device, batch))
        with self.runtime.autocast():
            return self.objective(on_device)

    @torch.no_grad()  # not inference_mode: FSDP2 allocates once what the steps use too
    def evaluate(self) -> Metrics:
        """Returns the loss over the whole validation text, every document read from its start."""
        self.model.eval()
        totals, further = torch.zeros((), dtype=torch.float64), Sums()
        context_length, corpus = self.model_config.context_length, self.corpus
        batches = corpus.evaluation_batches(context_length, self.micro_batches.size)
        for batch in self.runtime.batches_of_rank(batches):
            loss, count, further = self.forward(batch)
            totals = totals + together(loss, count, further).cpu().double()
        nats, n_targets, *values = self.runtime.all_reduce_sum(totals).tolist()
        self.state.record_validation(nats / n_targets)
        metrics = {"val_loss": nats / n_targets}
        if corpus.validation.n_bytes:
            metrics["val_bits_per_byte"] = bits_per_byte(nats, corpus.validation.n_bytes)
        if corpus.floor_bits_per_byte is not None:
            metrics["floor_bits_per_byte"] = corpus.floor_bits_per_byte
        return metrics | means(further, values, n_targets, prefix="val_")

    def train_bits_per_byte(self, nats_per_token: float) -> Metrics:
        """Returns a training loss in bits per byte, at the training text's tokens per byte.

        Returns nothing where the data is no text, as pairs of answers are.
        """
        split = self.corpus.train
        if not split.n_bytes:
            return {}
        nats = nats_per_token * split.n_targets
        return {"train_bits_per_byte": bits_per_byte(nats, split.n_bytes)}

    def report(self, bar: Bar, metrics: Metrics) -> None:
        """Writes metrics to metrics.jsonl, to the bar and, after an evaluation, to the screen."""
        self.state.record_metrics(metrics)
        self.state.take_snapshot()
        step = f"step {self.state.step:>5}"
        if "skipped" in metrics or "spike" in metrics:
            self.console.print(f"{step}  {describe_flags(metrics)}")
        if "train_loss" in metrics:
            bar.move(self.state.step, describe_step(metrics, self.state.units))
        if "val_loss" in metrics:
            self.console.print(f"{step}  {describe_evaluation(metrics, self.state.units)}")
            if self.state.curve.overfits_since == self.state.step:
                self.console.print(f"{step}  {self.state.curve.warning(self.state.units.loss)}")
            if advice := self.advise(metrics):
                self.console.print(f"{step}  {advice}")
