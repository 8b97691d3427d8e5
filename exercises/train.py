"""`learn train`: GPT-2 with the learner's parts in it, on the embedded corpus or any text.

The run directory is an ordinary one: its weights have the root files' names, and `generate` and
`evaluate` read it with the root files' code. parts.json says which parts were the learner's.
Previous: assemble.py.  Next: hints.py.
"""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from cfg_gpt2 import DEFAULT_PRESET, RunConfig, preset, require
from commands.language import Language
from commands.train import begin_run, conclude, corpus_with_bar, describe, lock_run_dir
from exercises.assemble import STEPS, TOLERANCE, Mine, calling, largest_gap, put_in, side_by_side
from exercises.check import check, require_passed, text_of
from exercises.report import TABLES, localized
from exercises.settings import LearnCommand
from exercises.source import module_of
from gpt2 import GPT2Model
from load_data import Corpus
from run_directory.files import sha256, write_whole
from run_directory.printable import json_line
from trainer import Trainer
from training.choose_runtime import choose_runtime
from training.kernels.cross_entropy import fused_language_model_loss
from training.progress import CommandConsole

PARTS_FILE = "parts.json"


def train_with_parts(command: LearnCommand, console: CommandConsole, language: Language) -> int:
    """Trains a model with the parts that were named, all of which pass; returns the exit status."""
    parts = [open_part(name, command) for name in command.names]
    labels = TABLES[language].LABELS
    with ExitStack() as lock:
        run_dir = lock_run_dir(None, command.out, "mine", console, lock)
        corpus = corpus_with_bar(command.data, console)
        config = config_of(command, corpus)
        gap = largest_gap(side_by_side(config, corpus, parts))
        shown = localized(f"{gap:.0e}", language)
        console.print(labels["side_by_side"].format(steps=STEPS, gap=shown))
        require(
            gap <= TOLERANCE,
            f"the losses of {STEPS} steps differ by {gap:.0e} from those of the original, more "
            f"than {TOLERANCE:.0e}; the part that passed its checks is not equal in the model",
        )
        trainer = trained(command, parts, config, corpus, run_dir, console, language)
        return conclude(trainer, corpus, config, trainer.runtime, console)


def open_part(name: str, command: LearnCommand) -> Mine:
    """Returns the learner's class of an exercise. Raises ValueError where it does not pass."""
    verdict = check(name, command.folder, command.seed)
    require_passed(verdict)
    text = text_of(verdict.path, name)
    module = module_of(text, verdict.path, f"mine_{verdict.path.stem}")
    return Mine(verdict.exercise, getattr(module, verdict.exercise.part.__name__))


def config_of(command: LearnCommand, corpus: Corpus) -> RunConfig:
    """Returns the settings of the smallest preset with the steps that were asked for."""
    base = preset(DEFAULT_PRESET)
    steps = command.steps
    return RunConfig(
        model=replace(base.model, vocab_size=corpus.tokenizer.vocab_size),
        data=command.data,
        train=replace(
            base.train,
            max_steps=steps,
            eval_every=steps,
            warmup_steps=min(base.train.warmup_steps, steps // 10),
            snapshots=0,
        ),
    )


def trained(
    command: LearnCommand,
    parts: list[Mine],
    config: RunConfig,
    corpus: Corpus,
    run_dir: Path,
    console: Console,
    language: Language,
) -> Trainer:
    """Trains the model with the parts, says how often they ran, and returns the trainer."""
    torch.manual_seed(config.train.seed)
    model = GPT2Model(config.model)
    witness = put_in(model, parts)
    runtime = choose_runtime(config.train, config.model)
    trainer = Trainer(
        model, corpus, config, run_dir, runtime, console, loss_fn=fused_language_model_loss
    )
    begin_run(run_dir, config, corpus)
    write_parts(run_dir, command, parts)
    describe(console, config, trainer, corpus)
    with calling(parts):
        trainer.train()
    line = TABLES[language].LABELS["witness"]
    for name, times in witness.mine.items():
        console.print(line.format(name=name, times=f"{times:,}", root=witness.root[name]))
    return trainer


def write_parts(run_dir: Path, command: LearnCommand, parts: list[Mine]) -> None:
    """Writes which parts of the model are the learner's, with the SHA-256 of each file."""
    files = {mine.exercise.name: command.folder / mine.exercise.file for mine in parts}
    text = json_line({name: {"sha256": sha256(file)} for name, file in files.items()}, "utf-8")
    write_whole(run_dir / PARTS_FILE, lambda part: part.write_text(text + "\n", encoding="utf-8"))
