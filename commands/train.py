"""`python main.py train`: a corpus, a model, the loop, and a look at the result.

Previous: suggest_prompt.py.  Next: generate_settings.py.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from cfg_gpt2 import DEFAULT_PRESET, DataConfig, RunConfig, require
from commands.init_from import (
    fit_of_tokenizer,
    initial_model,
    origin_of,
    require_tokenizer_of,
    require_unchanged,
    weights_left_out,
)
from commands.resume import SAMPLES_FILE, at_new_place, finished_step, say_finished
from commands.streams import say
from commands.suggest_prompt import prompt_from_text
from commands.train_settings import TrainCommand
from data.piped_text import keep_piped
from data.shards import is_prepared
from data.stream import SCAN_TOKENS
from data.tiny_world.stories import LANGUAGES, read_story
from data.token_files import Report
from generation import SamplingConfig, generate
from gpt2 import GPT2Model
from load_data import Corpus, load_corpus
from run_directory.config_file import CONFIG_FILE, read_config, write_config
from run_directory.files import write_whole
from run_directory.lock import first_free, only_writer
from run_directory.printable import main_command, quoted
from tokenizer import UnseenCharacter
from trainer import Trainer
from training.checkpoint import has_checkpoint
from training.choose_runtime import choose_runtime
from training.kernels import choose_kernels, use_kernels
from training.kernels.cross_entropy import fused_language_model_loss
from training.least_memory import require_memory
from training.progress import Bar, CommandConsole, new_console
from training.runtime import Ranks, Runtime

N_SAMPLES = 10
MANY_DOCUMENTS = 20  # in the training text, from which a model learns how they begin


def train(command: TrainCommand) -> int:
    """`python main.py train`: a corpus, a model, the loop, and a look at what came out."""
    ranks = Ranks.read(os.environ)
    if command.resume and (step := finished_step(command)):
        return say_finished(command.resume, step, new_console(quiet=ranks.rank > 0))
    command = with_tokenizer_of_shards(command)
    runtime = choose_runtime(command.train, command.model, ranks)
    require_memory(command.model, command.train, runtime)  # before the text is tokenized
    console = new_console(quiet=not runtime.is_rank_zero)
    console.print(f"device    {runtime.describe()}")
    with ExitStack() as lock:  # of the run directory
        with runtime.process_group():
            trainer, corpus, config = train_together(command, runtime, console, lock)
        return conclude(trainer, corpus, config, runtime, console)


def conclude(
    trainer: Trainer,
    corpus: Corpus,
    config: RunConfig,
    runtime: Runtime,
    console: CommandConsole,
) -> int:
    """Says how to go on, after some samples where the run is complete; returns the exit status."""
    run_dir, status = trainer.run_dir, 0
    if trainer.state.step < config.train.max_steps:
        say_stopped(console, trainer.state.step, run_dir)
        if hint := trainer.state.curve.hint():
            console.print(hint)
        status = 128 + trainer.stopped_by
    elif runtime.is_rank_zero:
        show_samples(console, corpus, config, run_dir, runtime)
        hint = trainer.state.curve.hint()
        console.print(f"\n{hint}" if hint else "")
        best = ["--best"] if hint and trainer.state.curve.overfits() else []
        prompt = suggest_prompt(corpus)
        flags = ["--prompt", prompt] if prompt else []
        console.print(
            f"The curve is in {run_dir / 'loss.png'}. Next, let it write:\n"
            f"  {main_command('generate', run_dir, *best, *flags)}",
        )
    if console.lost:
        raise console.lost  # of it main.py makes the exit status
    return status


def say_stopped(console: CommandConsole, step: int, run_dir: Path, command: str = "train") -> None:
    """Says how to go on, on the standard error where nobody reads the output any more."""
    line = f"Stopped after step {step} and saved. Go on with: "
    line += main_command(command, "--resume", run_dir)
    if console.lost:
        say(line)
    else:
        console.print(line)


def train_together(
    command: TrainCommand, runtime: Runtime, console: Console, lock: ExitStack
) -> tuple[Trainer, Corpus, RunConfig]:
    """A corpus, a model and the loop, in this process and in whatever others train with it."""
    paths, cache = command.data.path, command.data.cache_dir
    paths = runtime.on_rank_zero(partial(keep_piped, paths, cache))
    command = replace(command, data=replace(command.data, path=paths))
    run_dir = runtime.on_rank_zero(
        partial(lock_run_dir, command.resume, command.out, run_name(command), console, lock)
    )
    corpus = runtime.local_rank_zero_first(partial(open_corpus, command, console))
    config, model = new_model(command, corpus, runtime, console)
    trainer = Trainer(
        model, corpus, config, run_dir, runtime, console, loss_fn=fused_language_model_loss
    )
    if command.resume:
        trainer.state.resume()
    runtime.on_rank_zero(partial(begin_run, run_dir, config, corpus))
    describe(console, config, trainer, corpus)
    trainer.train()
    return trainer, corpus, config


def new_model(
    command: TrainCommand, corpus: Corpus, runtime: Runtime, console: Console
) -> tuple[RunConfig, GPT2Model]:
    """Returns the run's settings and its model, with random weights or those of --init-from."""
    torch.manual_seed(command.train.seed)
    origin = read_config(command.resume).init_from if command.resume else None
    if command.init_from:
        require_tokenizer_of(command.init_from, corpus)
        warning = fit_of_tokenizer(command.init_from, corpus)
        if warning:
            console.print(warning)
        origin = runtime.on_rank_zero(partial(origin_of, command.init_from))
    vocab_size = command.model.vocab_size if origin else corpus.tokenizer.vocab_size
    config = RunConfig(
        model=replace(command.model, vocab_size=vocab_size),
        data=command.data,
        train=command.train,
        init_from=origin,
    )
    if command.config and (note := weights_left_out(command.config)):
        console.print(note)
    require_memory(config.model, config.train, runtime, vocab_size)
    if origin is None or (command.resume and has_checkpoint(command.resume)):
        return config, GPT2Model(config.model)
    if command.resume:
        runtime.on_rank_zero(partial(require_unchanged, origin))
    return config, initial_model(config.model, origin.run)


def begin_run(run_dir: Path, config: RunConfig, corpus: Corpus) -> None:
    """Writes what a run directory has before the first step."""
    write_config(run_dir, config)
    corpus.tokenizer.save(run_dir)


def with_tokenizer_of_shards(command: TrainCommand) -> TrainCommand:
    """Returns the settings with no other tokenizer than the one that shards bring along."""
    if command.init_from is None or not any(map(is_prepared, command.data.path)):
        return command
    return replace(command, data=replace(command.data, tokenizer=DataConfig.tokenizer))


def run_name(command: TrainCommand) -> str:
    """Returns the name of a new run's directory: that of the base, of the world or the preset."""
    if command.init_from:
        return command.init_from.resolve().name
    if command.preset == DEFAULT_PRESET and command.data.path[0] in LANGUAGES:
        return command.data.path[0]
    return command.preset


def lock_run_dir(
    resume: Path | None, out: Path | None, name: str, console: Console, lock: ExitStack
) -> Path:
    """--resume or --out, or the first free one of runs/NAME, runs/NAME-2, ...

    No other process writes it until `lock` is closed.
    Raises ValueError where --out already holds a run, and where another process writes it.
    """
    if resume:
        lock.enter_context(only_writer(resume, "stop it first", console.print))
        return resume
    if out:
        lock.enter_context(only_writer(out, "choose another --out", console.print))
        require(
            not (out / CONFIG_FILE).exists(),
            f"--out {out} already holds a run; go on with it by --resume {quoted(out)}, "
            "or name another directory",
        )
        return out
    numbers = (Path("runs", name if n == 1 else f"{name}-{n}") for n in range(1, 1_000_000))
    return lock.enter_context(first_free(numbers, console.print))


def open_corpus(command: TrainCommand, console: Console) -> Corpus:
    """Loads the data. With --init-from a character that its tokenizer lacks is no typing error."""
    try:
        return corpus_with_bar(command.data, console)
    except FileNotFoundError as error:
        raise at_new_place(error, command.resume, "--data.path", command.data.path) from None
    except UnseenCharacter as error:
        if command.init_from is None:
            raise
        reason = str(error).partition(";")[0]
        raise ValueError(
            f"{reason}, and the weights of {command.init_from} know no others; train without "
            "--init-from, or begin from a run with a bpe tokenizer"
        ) from None


def corpus_with_bar(config: DataConfig, console: Console) -> Corpus:
    """Loads the data, with a bar for each part of the work that there is."""
    with bars(console, lambda done: f"{done / 1e6:.1f} MB") as report:
        return load_corpus(config, report)


@contextmanager
def bars(console: Console, text_of: Callable[[int], str] = "{:,}".format) -> Iterator[Report]:
    """Yields a function that shows a bar for each part of a work: done, of how much, its name."""
    shown: dict[str, Bar] = {}
    with ExitStack() as stack:

        def report(done: int, total: int, what: str) -> None:
            if what not in shown:
                stack.close()  # the bar of the part before
                shown[what] = stack.enter_context(Bar(console, what, total))
            shown[what].move(done, text_of(done) if total else "")

        yield report


def describe(console: Console, config: RunConfig, trainer: Trainer, corpus: Corpus) -> None:
    """What is going to be trained, on what, and where it goes."""
    sizes, steps = config.model, config.train
    n_tokens, n_bytes = len(corpus.train.tokens), corpus.train.n_bytes
    floor, done = corpus.floor_bits_per_byte, trainer.state.step
    epochs = trainer.windows.epochs(steps.max_steps * steps.batch_size)
    for line in (
        f"data      {', '.join(config.data.path)}: {n_tokens:,} tokens of {n_bytes / n_tokens:.1f} "
        f"bytes to learn from, {len(corpus.validation.tokens):,} to be measured on"
        + (f"; floor {floor:.4f} bits per byte" if floor is not None else ""),
        *(f"note      {note}" for note in corpus.notes),
        f"model     {trainer.model.n_parameters():,} parameters: {sizes.n_layer} blocks, "
        f"{sizes.n_head} heads, {sizes.n_embd} wide, context {sizes.context_length}, "
        f"{sizes.vocab_size:,} tokens",
        f"training  {steps.max_steps:,} steps of {steps.batch_size} windows by {steps.optimizer}, "
        f"{' and '.join(f'{times:.1f}' for times in epochs)} times through the text",
        *([f"weights   from {config.init_from.run}"] if config.init_from else []),
        *([f"resumed   from step {done:,} of {steps.max_steps:,}"] if done else []),
        f"run       {trainer.run_dir}",
    ):
        console.print(line)


def show_samples(
    console: Console, corpus: Corpus, config: RunConfig, run_dir: Path, runtime: Runtime
) -> None:
    """Writes samples.txt, prints three samples and, for a built-in world, how many are possible."""
    end, lead = corpus.tokenizer.end_of_text, lead_in(corpus)
    sampling = SamplingConfig(
        max_new_tokens=config.model.context_length,
        temperature=0.6,
        top_p=0.9,
        seed=config.train.seed,
        suppress_tokens=tuple(corpus.tokenizer.ids_without_token(config.model.vocab_size)),
    )
    model = GPT2Model.load(run_dir).to(runtime.device)  # as it was saved, and not compiled
    use_kernels(model, choose_kernels(model.device, model.dtype))
    prompt = corpus.tokenizer.encode(lead) or [end]
    rows = generate(model, [prompt] * N_SAMPLES, sampling, stop_token=end)
    texts = [lead.lstrip() + corpus.tokenizer.decode(row) for row in rows]
    together = "\n\n".join(texts) + "\n"
    write_whole(run_dir / SAMPLES_FILE, lambda p: p.write_text(together, encoding="utf-8"))
    console.print(
        f"\nThree of {N_SAMPLES} samples in {run_dir / SAMPLES_FILE}, "
        f"temperature {sampling.temperature}, top-p {sampling.top_p}:"
    )
    for text in texts[:3]:
        console.print(f"\n  {text}")
    world = LANGUAGES.get(config.data.path[0])
    if world:
        wrong = []
        for text in texts:
            try:
                read_story(text, world)
            except ValueError as error:
                wrong.append(str(error))
        console.print(
            f"\n{N_SAMPLES - len(wrong)} of {N_SAMPLES} stories are possible in {world.name}"
            + (f"; the first misfit: {wrong[0]}" if wrong else ""),
        )


def lead_in(corpus: Corpus) -> str:
    """Returns the text that samples begin after: none where the text has many documents.

    The beginning of a document is seldom seen in a text of few; that of a line or a word is.
    """
    tokens = corpus.train.tokens[:SCAN_TOKENS]
    if np.count_nonzero(tokens == corpus.tokenizer.end_of_text) >= MANY_DOCUMENTS:
        return ""
    has_lines = "\n" in corpus.tokenizer.decode(tokens[1:10_000].tolist())
    word = suggest_prompt(corpus) or ""
    return "\n" if has_lines else word if word[:1].isupper() else ""


def suggest_prompt(corpus: Corpus) -> str | None:
    """Returns a word of the validation text as a prompt, None where its beginning has none."""
    text = corpus.tokenizer.decode(corpus.validation.tokens[1:1000].tolist())
    return prompt_from_text(text.replace(corpus.tokenizer.end_token, "\n"))
