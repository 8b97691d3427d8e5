"""`python main.py finetune RUN`: a trained model learns to answer from labelled dialogues.

Previous: methods.py.  Next: chat_json.py.
"""

import math
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from cfg_gpt2 import InitFrom, RunConfig, TrainConfig
from commands.init_from import initial_model, origin_of, require_unchanged
from commands.resume import at_new_place, newest_checkpoint, say_finished
from commands.train import bars, lock_run_dir, say_stopped
from finetuning.adapter_files import load_adapter, write_adapter
from finetuning.base_text import BASE_TEXT_METRIC, BaseText, measure, open_base_text, replay_of
from finetuning.chat_json import ChatSettings, write_chat_settings
from finetuning.dialogues import DialogueCorpus, share_of_windows
from finetuning.labelled_data import encode, open_dialogues
from finetuning.lora import add_lora, merge
from finetuning.methods import (
    LabelledCorpus,
    advice_of,
    dialogues_to_show,
    loss_of,
    open_answers,
    with_model,
)
from finetuning.pairs import PreferenceCorpus
from finetuning.preview import preview
from finetuning.reinforce import QuestionCorpus
from finetuning.settings import FinetuneCommand, fit_to_cpu
from finetuning.tiny_questions.dialogues import TASKS
from gpt2 import GPT2Model
from load_data import Corpus
from run_directory.config_file import read_config, write_config
from run_directory.printable import main_command
from run_directory.weights import WEIGHTS_FILE, read_weights
from tokenizer import Tokenizer
from trainer import Trainer
from training.checkpoint import has_checkpoint
from training.choose_runtime import choose_runtime
from training.least_memory import require_memory
from training.progress import CommandConsole, MetricsLog, new_console
from training.run_state import Publish, as_they_are
from training.runtime import Ranks, Runtime


def finetune(command: FinetuneCommand) -> int:
    """`python main.py finetune`: dialogues, a model that was trained, the loop; returns 0."""
    ranks = Ranks.read(os.environ)
    base = base_of(command)
    runtime = choose_runtime(command.train, read_config(base).model, ranks)
    if runtime.device.type == "cpu":
        command = fit_to_cpu(command, read_config(base).model)
    is_frozen = command.method == "lora"
    require_memory(read_config(base).model, command.train, runtime, is_frozen=is_frozen)
    console = new_console(quiet=not runtime.is_rank_zero)
    if command.resume and (step := finished_step(command, base)):
        return say_finished(base, step, console)
    if command.show:
        return show(command, base, console)
    console.print(f"device    {runtime.describe()}")
    with ExitStack() as lock:  # of the run directory
        with runtime.process_group():
            trainer, text = finetune_together(command, base, runtime, console, lock)
        return conclude(trainer, text, command.data[0], runtime, console)


def finished_step(command: FinetuneCommand, run: Path) -> int | None:
    """Returns the step at which a run to be resumed has done all that is asked; None: it goes on.

    Its last figure is that of its base's text, of whatever method. Raises ValueError as
    newest_checkpoint does.
    """
    newest = newest_checkpoint(run, command.train.max_steps, f"finetune {run}")
    if newest is None or newest[1].step < command.train.max_steps:
        return None
    lines = MetricsLog(run).read()
    is_measured = bool(lines) and BASE_TEXT_METRIC in lines[-1]
    return newest[1].step if is_measured and (run / WEIGHTS_FILE).is_file() else None


def base_of(command: FinetuneCommand) -> Path:
    """Returns the run that gives sizes, tokenizer and text: RUN, or the one to be resumed."""
    base = command.resume or command.run
    assert base  # settings.py has seen to it
    return base


def show(command: FinetuneCommand, base: Path, console: Console) -> int:
    """Prints some dialogues with what is learned of them; returns 0."""
    with bars(console) as report:
        dialogues, notes = dialogues_to_show(command, report)
    for line in notes:
        console.print(line)
    tokenizer, config = Tokenizer.load(base), read_config(base).model
    preview(dialogues, tokenizer, config.context_length, command.show or 0, console)
    return 0


def finetune_together(
    command: FinetuneCommand, base: Path, runtime: Runtime, console: Console, lock: ExitStack
) -> tuple[Trainer, BaseText]:
    """Dialogues, a model and the loop, in this process and in whatever others train with it."""
    name = f"{base.resolve().name}-chat"
    run_dir = runtime.on_rank_zero(
        partial(lock_run_dir, command.resume, command.out, name, console, lock)
    )
    try:
        opened = runtime.local_rank_zero_first(partial(open_corpus, command, base, console))
    except FileNotFoundError as error:
        raise at_new_place(error, command.resume, "--data", command.data) from None
    corpus, text, lines = opened
    origin = read_config(base).init_from
    if command.resume is None:
        origin = runtime.on_rank_zero(partial(origin_of, base, ""))
    assert origin  # of a run to be resumed, settings.py has seen it
    config = new_config(command, base, corpus, origin)
    torch.manual_seed(config.train.seed)
    model = new_model(command, config, origin, runtime)
    publish = publish_of(command, run_dir, origin)
    trainer = Trainer(
        model,
        with_model(corpus, model, publish, origin, run_dir, runtime, console),
        config,
        run_dir,
        runtime,
        console,
        loss_fn=loss_of(command),
        publish=publish,
        further={"method": command.method, "base weights": origin.weights_sha256},
        advise=advice_of(command),
    )
    if command.resume:
        trainer.state.resume()
    runtime.on_rank_zero(partial(begin_run, command, run_dir, config, corpus))
    describe(console, config, trainer, lines)
    trainer.train()
    n_left_out = corpus.train.n_left_out
    n_examples = len(corpus.train) + n_left_out
    trainer.state.log.add_to(0, {"examples": n_examples, "left_out": n_left_out})
    return trainer, text


def new_config(
    command: FinetuneCommand, base: Path, corpus: LabelledCorpus, origin: InitFrom
) -> RunConfig:
    """Returns the settings of the base with this training and its dropout."""
    base_config = read_config(base)
    return replace(
        base_config,
        model=replace(base_config.model, dropout=command.dropout),
        train=with_steps(command, corpus),
        init_from=origin,
    )


def new_model(
    command: FinetuneCommand, config: RunConfig, origin: InitFrom, runtime: Runtime
) -> GPT2Model:
    """Returns the model of the base, with LoRA where that is the method.

    A checkpoint of LoRA holds A and B alone; any other one replaces all weights of a resumed run.
    """
    uses_lora = command.method == "lora"
    is_replaced = command.resume is not None and has_checkpoint(command.resume)
    if is_replaced and not uses_lora:
        return GPT2Model(config.model)
    if command.resume:
        runtime.on_rank_zero(partial(require_unchanged, origin))
    model = initial_model(config.model, origin.run)
    if uses_lora:
        add_lora(model, command.lora, config.train.seed)
        if command.lora.adapter and not is_replaced:
            load_adapter(model, command.lora)
    return model


def publish_of(command: FinetuneCommand, run_dir: Path, origin: InitFrom) -> Publish:
    """Returns what makes model.safetensors of the trained weights: with LoRA, the merged ones.

    They are merged into the base's own file, for the model may hold its matrices in bf16. The
    adapter itself goes to adapter/, in peft's files.
    """
    if command.method != "lora":
        return as_they_are

    def publish(trained: dict[str, Tensor]) -> Mapping[str, Tensor]:
        write_adapter(run_dir / "adapter", trained, command.lora, origin.run)
        require_unchanged(origin)
        return merge(read_weights(Path(origin.run) / WEIGHTS_FILE), trained, command.lora)

    return publish


def open_corpus(
    command: FinetuneCommand, base: Path, console: Console
) -> tuple[LabelledCorpus, BaseText, list[str]]:
    """Returns the data as the trainer needs it, the base's text, lines for the screen."""
    tokenizer, context_length = Tokenizer.load(base), read_config(base).model.context_length
    text = open_base_text(base, tokenizer, console)
    if command.method in ("dpo", "reward"):
        with bars(console) as report:
            answers, lines = open_answers(command, tokenizer, context_length, report)
        return answers, text, lines
    replay = replay_of(text, base, command.replay)
    with bars(console) as report:
        dialogues = open_dialogues(command.data, command.system, report, command.examples)
        parts = [
            encode(part, tokenizer, context_length, report, leave_out_long=command.leave_out_long)
            for part in (dialogues.train, dialogues.validation)
        ]
    (train, counts), (validation, _) = parts
    lines = [*dialogues.notes, *counts.lines(context_length)]
    lines.append(f"{len(validation):,} more to be measured on")
    if replay:
        lines.append(f"{replay.share:.0%} of what is learned is the text of {base}")
    elif command.replay is None:
        lines.append(f"nothing of the base's own text is replayed: {text.reason}")
    return DialogueCorpus(tokenizer, train, validation, replay), text, lines


def with_steps(command: FinetuneCommand, corpus: LabelledCorpus) -> TrainConfig:
    """Returns the training settings with as many steps as --epochs asks for."""
    if command.steps_given:
        return command.train
    share = 0.0
    if isinstance(corpus, DialogueCorpus) and corpus.replay:
        share = share_of_windows(corpus.train, corpus.replay)
    n_rows = len(corpus.train) / (1 - share)
    steps = max(1, math.ceil(command.epochs * n_rows / command.train.batch_size))
    warmup = min(command.train.warmup_steps, steps // 10)
    return replace(command.train, max_steps=steps, warmup_steps=warmup)


def begin_run(
    command: FinetuneCommand, run_dir: Path, config: RunConfig, corpus: LabelledCorpus
) -> None:
    """Writes what a run directory has before the first step."""
    origin = config.init_from
    assert origin
    write_config(run_dir, config)
    corpus.tokenizer.save(run_dir)
    replay = corpus.replay if isinstance(corpus, DialogueCorpus) else None
    settings = ChatSettings(
        system=command.system,
        method=command.method,
        base=origin.run,
        base_sha256=origin.weights_sha256,
        data=command.data,
        replay=replay.share if replay else 0.0,
        examples=command.examples,
        leave_out_long=command.leave_out_long,
        lora=command.lora if command.method == "lora" else None,
        preference=command.preference if command.method == "dpo" else None,
        reward=command.reward if command.method == "reward" else None,
    )
    write_chat_settings(run_dir, settings)


def describe(console: Console, config: RunConfig, trainer: Trainer, lines: list[str]) -> None:
    """Prints what is going to be learned, by which model, and where it goes."""
    steps, done = config.train, trainer.state.step
    [epochs] = trainer.windows.epochs(steps.max_steps * steps.batch_size)
    base = config.init_from.run if config.init_from else "random weights"
    units = {PreferenceCorpus: "pairs", QuestionCorpus: "questions"}
    unit = units.get(type(trainer.corpus), "dialogues")
    cut = f", {trainer.micro_batches.size} at a time," if steps.micro_batch else ""
    for line in (
        *(f"data      {line}" for line in lines),
        f"model     {describe_parameters(trainer.model)}, from {base}",
        f"training  {steps.max_steps:,} steps of {steps.batch_size} {unit}{cut} by "
        f"{steps.optimizer}, {epochs:.1f} times through them",
        *([f"resumed   from step {done:,} of {steps.max_steps:,}"] if done else []),
        f"run       {trainer.run_dir}",
    ):
        console.print(line)


def describe_parameters(model: GPT2Model) -> str:
    """Returns how many parameters there are, and how many of them are trained."""
    n_all = model.n_parameters()
    n_trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    if n_trained == n_all:
        return f"{n_all:,} parameters, all of them trained"
    in_bf16 = any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    return (
        f"{n_all:,} parameters, {n_trained:,} of them trained and {n_all - n_trained:,} frozen"
        f"{' (matrices in bf16)' if in_bf16 else ''}"
    )


def conclude(
    trainer: Trainer, text: BaseText, task: str, runtime: Runtime, console: CommandConsole
) -> int:
    """Says how to go on; returns the exit status."""
    run_dir, status = trainer.run_dir, 0
    if trainer.state.step < trainer.config.max_steps:
        say_stopped(console, trainer.state.step, run_dir, "finetune")
        status = 128 + trainer.stopped_by
    elif runtime.is_rank_zero:
        if text.corpus:
            console.print(forgotten(trainer, text.corpus))
        if hint := trainer.state.curve.hint(trainer.state.units.loss):
            console.print(hint)
        console.print(f"\nThe curve is in {run_dir / 'loss.png'}. Next, talk to it:")
        if task in TASKS:
            console.print(f"  {main_command('evaluate', run_dir, '--task', task)}")
        console.print(f"  {main_command('chat', run_dir)}")
    if console.lost:
        raise console.lost  # of it main.py makes the exit status
    return status


def forgotten(trainer: Trainer, corpus: Corpus) -> str:
    """Returns a line that compares the run with its base on the text that the base has learned.

    Both figures go to metrics.jsonl: to the line of step 0 and to that of the last step.
    """
    run_dir, state, device = trainer.run_dir, trainer.state, trainer.runtime.device
    origin = read_config(run_dir).init_from
    assert origin
    after = measure(run_dir, corpus, device)
    state.log.add_to(state.step, {BASE_TEXT_METRIC: after})
    if not (Path(origin.run) / WEIGHTS_FILE).is_file():
        return f"its base's own text: {after:.4f} bits per byte"
    before = measure(Path(origin.run), corpus, device)
    state.log.add_to(0, {BASE_TEXT_METRIC: before})
    return f"the text of {origin.run}: {before:.4f} bits per byte before, {after:.4f} after"
