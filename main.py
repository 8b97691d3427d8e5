"""The front door: `python main.py` trains; the table below names the other commands.

Settings come from, in this order, each overriding the one before: the defaults, --preset,
--config FILE (or the run that --resume names), the flags.
Previous: trainer.py.  Next: whichever folder you need.
"""

import gc
import importlib
import os
import re
import signal
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch
import tyro
from rich.console import Console

import generation
from cfg_gpt2 import (
    DEFAULT_PRESET,
    DataConfig,
    GPT2Config,
    RunConfig,
    TrainConfig,
    parse_flags,
    preset,
    read_config,
    require,
    write_config,
    write_whole,
)
from data.tiny_world.stories import LANGUAGES, read_story
from decoding.completion import Completion
from decoding.display import Display, Stopwatch
from decoding.settings import Repeated
from decoding.speculative import PromptLookup, SmallModel, Speculation
from generation import SamplingConfig, cache_bytes, generate
from gpt2 import GPT2Model
from load_data import Corpus, load_corpus
from native.compiled import compile_step, has_threads, missing
from tokenizer import TOKENIZER_FILE, Tokenizer, UnseenCharacter
from trainer import Trainer
from training.progress import Bar, new_console
from training.runtime import Ranks, Runtime, choose_runtime, is_large

COMMANDS = {
    "train": ("main:train", "train a model, on the embedded corpus or on your own text"),
    "prepare": ("preparation.command:prepare", "turn large texts into token shards to train on"),
    "generate": ("main:write", "let a trained model go on with a prompt"),
    "import": ("pretrained.import_command:import_model", "open GPT-2's published weights as a run"),
    "export": ("pretrained.export_command:export", "write a run for transformers or llama.cpp"),
    "evaluate": ("evaluation.command:evaluate", "score models on a text, compare them"),
    "quantize": ("quantization.command:compare", "what int8 weights save and what they cost"),
    "plan": (
        "diagnostics.plan.command:plan",
        "count what a training run needs, before it is started",
    ),
    "doctor": ("diagnostics.doctor.command:doctor", "look at this machine, and at a run's curve"),
    "verify": (
        "diagnostics.verify.command:verify",
        "prove that every fast path equals the plain one",
    ),
    "benchmark": ("benchmarks.command:benchmark", "measure speed, beside other GPT-2s"),
}
N_SAMPLES = 10
INTERRUPTED = 128 + signal.SIGINT  # the exit status that shells give to Ctrl-C
PIPE_CLOSED = 128 + 13  # and to a program whose reader is gone, as in ... | head


@dataclass(frozen=True, kw_only=True)
class TrainCommand:
    """Train a GPT-2. Without any flag: a small one, on the embedded corpus, in a few minutes."""

    preset: str = DEFAULT_PRESET
    """tiny, shakespeare-char, book, gpt2, gpt2-medium, gpt2-large or gpt2-xl."""
    config: Path | None = None  # a config.json, such as another run's
    out: Path | None = None  # the new run's directory; None: runs/ and the preset's name
    resume: Path | None = None  # a run directory to go on with, exactly where it stopped
    model: GPT2Config = field(default_factory=GPT2Config)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True, kw_only=True)
class GenerateCommand(SamplingConfig):
    """Let a trained model write, token by token."""

    run: tyro.conf.Positional[Path]  # a run directory, such as runs/tiny
    prompt: Repeated[tuple[str, ...]] = ()
    """the text to go on with; empty: a new document; -: standard input; may be given again"""
    prompt_file: Repeated[tuple[Path, ...]] = ()  # a file with a prompt; may be given again
    samples: int = 1  # texts for each prompt, with seeds seed, seed + 1, ...; of beams the best
    ban: Repeated[tuple[str, ...]] = ()  # a word that is not written; may be given again
    stream: bool = True  # show the text while it is being written
    json: bool = False  # a line of JSON for each text: tokens, log-probabilities, why it ended
    interactive: bool = False  # ask for prompts, one after the other
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """of the weights; int8: a quarter of the bytes, at a cost that main.py quantize tells."""
    compile: Literal["auto", "on", "off"] = "auto"
    """the step from token to token, by a C++ compiler, once for this machine; auto does it for
    models of 10 M parameters and more, on a CPU, where there is a compiler."""
    draft: Path | None = None  # a smaller run with the same tokenizer: it guesses, the run checks
    prompt_lookup: bool = False  # guess what followed the same words before; the run checks
    guesses: int = 4  # of --draft or --prompt-lookup at a time

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.samples >= 1, f"--samples {self.samples} must be 1 or more")
        require(self.guesses >= 1, f"--guesses {self.guesses} must be 1 or more; try 4")
        if self.temperature == 0:
            require(
                self.samples <= self.beams,
                f"--samples {self.samples} would be the same text: at --temperature 0 there are "
                f"as many as --beams {self.beams}; raise one of the two",
            )
        require(
            self.prompt.count("-") <= 1,
            "--prompt - is given twice; standard input can be read once",
        )
        require(
            not (self.interactive and (self.prompt or self.prompt_file)),
            "--interactive asks for prompts; leave out --prompt and --prompt-file",
        )
        several = [self.draft, self.prompt_lookup, self.beams > 1]
        require(
            sum(map(bool, several)) <= 1,
            "--draft, --prompt-lookup and --beams exclude each other; choose one",
        )


def main(arguments: list[str]) -> int:
    """Runs a command -> the exit status."""
    if arguments[:1] in (["--help"], ["-h"]):
        new_console().print(overview())
        return 0
    name = "train"
    if arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
    try:
        require(name in COMMANDS, f"{name} is no command; choose one of {', '.join(COMMANDS)}")
        return getattr(module_of(name), COMMANDS[name][0].split(":")[1])(arguments)
    except BrokenPipeError:
        raise  # no error of the command's: see the end of this file
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def module_of(name: str) -> ModuleType:
    """Where a command lives, imported when it is needed."""
    module = COMMANDS[name][0].split(":")[0]
    return sys.modules[__name__] if module == "main" else importlib.import_module(module)


def overview() -> str:
    """One line a command."""
    lines = [f"  python main.py {name:10} {COMMANDS[name][1]}" for name in COMMANDS]
    return "\n".join(
        [
            "GPT-2 from scratch. Without a command: train.",
            "",
            *lines,
            "",
            "python main.py COMMAND --help lists the command's settings.",
        ]
    )


# train --------------------------------------------------------------------------------------


def train(arguments: list[str]) -> int:
    """`python main.py train`: a corpus, a model, the loop, and a look at what came out."""
    command = read_train_command(arguments)
    runtime = choose_runtime(command.train, command.model, Ranks.read(os.environ))
    console = new_console(quiet=not runtime.is_first)
    console.print(f"device    {runtime.describe()}")
    with runtime.session():
        trainer, config = train_together(command, runtime, console)
    run_dir, corpus = trainer.run_dir, trainer.corpus
    if trainer.step < config.train.max_steps:
        console.print(
            f"Stopped after step {trainer.step} and saved. "
            f"Go on with: python main.py train --resume {run_dir}",
        )
        return 128 + trainer.stopped_by
    if runtime.is_first:
        show_samples(console, corpus, config, run_dir, runtime)
        console.print(
            f"\nThe curve is in {run_dir / 'loss.png'}. Next, let it write:\n"
            f'  python main.py generate {run_dir} --prompt "{opening(corpus)}"',
        )
    return 0


def train_together(
    command: TrainCommand, runtime: Runtime, console: Console
) -> tuple[Trainer, RunConfig]:
    """A corpus, a model and the loop, in this process and in whatever others train with it."""
    run_dir = command.resume or runtime.first(partial(new_run_dir, command))
    corpus = runtime.in_turn(partial(corpus_with_bar, command.data, console))
    config = RunConfig(
        model=replace(command.model, vocab_size=corpus.tokenizer.vocab_size),
        data=command.data,
        train=command.train,
    )
    torch.manual_seed(config.train.seed)
    model = GPT2Model(config.model)
    trainer = Trainer(model, corpus, config, run_dir, runtime, console)
    if command.resume:
        trainer.resume()
    runtime.first(partial(begin_run, run_dir, config, corpus))
    describe(console, config, trainer, run_dir)
    trainer.train()
    return trainer, config


def begin_run(run_dir: Path, config: RunConfig, corpus: Corpus) -> None:
    """Writes what a run directory has before the first step."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_config(run_dir, config)
    corpus.tokenizer.save(run_dir)


def read_train_command(arguments: list[str]) -> TrainCommand:
    """Flags over --resume's settings or --config over --preset over defaults."""

    def first(flag: str) -> str | None:
        for i, argument in enumerate(arguments):
            if argument == flag and i + 1 < len(arguments):
                return arguments[i + 1]
            if argument.startswith(flag + "="):
                return argument.removeprefix(flag + "=")
        return None

    name, config_file, resumed = first("--preset"), first("--config"), first("--resume")
    chosen = [flag for flag in ("--preset", "--config", "--resume") if first(flag)]
    require(len(chosen) <= 1, f"{' and '.join(chosen)} exclude each other; choose one")
    base = preset(name or DEFAULT_PRESET)
    if config_file or resumed:
        base = read_config(Path(config_file or resumed or ""))
    default = TrainCommand(model=base.model, data=base.data, train=base.train)
    command = parse_flags(TrainCommand, "train", arguments, default)
    if resumed:
        require(command.out is None, "--out and --resume exclude each other; choose one")
        unchanged = (command.model, command.data) == (base.model, base.data)
        require(unchanged, f"--resume {resumed} keeps its model and data; change --train.* only")
    return command


def new_run_dir(command: TrainCommand) -> Path:
    """--out, or the first free one of runs/tiny, runs/tiny-2, ...

    Raises ValueError where --out already holds a run.
    """
    if command.out:
        require(
            not (command.out / "config.json").exists(),
            f"--out {command.out} already holds a run; go on with it by --resume {command.out}, "
            "or name another directory",
        )
        return command.out
    name = command.preset
    if command.preset == DEFAULT_PRESET and command.data.path[0] in LANGUAGES:
        name = command.data.path[0]
    numbers = (Path("runs", name if n == 1 else f"{name}-{n}") for n in range(1, 1_000_000))
    return next(path for path in numbers if not path.exists())


def corpus_with_bar(config: DataConfig, console: Console) -> Corpus:
    """Loads the data, with a bar for each part of the work that there is."""
    bars: dict[str, Bar] = {}
    with ExitStack() as shown:

        def report(done: int, total: int, what: str) -> None:
            if what not in bars:
                shown.close()  # the bar of the part before
                bars[what] = shown.enter_context(Bar(console, what, total))
            bars[what].move(done, f"{done / 1e6:.1f} MB")

        return load_corpus(config, report)


def describe(console: Console, config: RunConfig, trainer: Trainer, run_dir: Path) -> None:
    """What is going to be trained, on what, and where it goes."""
    sizes, steps, corpus = config.model, config.train, trainer.corpus
    n_tokens, n_bytes = len(corpus.train.tokens), corpus.train.n_bytes
    floor = corpus.floor_bits_per_byte
    passes = trainer.windows.passes(steps.max_steps * steps.batch_size)
    for line in (
        f"data      {', '.join(config.data.path)}: {n_tokens:,} tokens of {n_bytes / n_tokens:.1f} "
        f"bytes to learn from, {len(corpus.validation.tokens):,} to be measured on"
        + (f"; floor {floor:.4f} bits per byte" if floor is not None else ""),
        f"model     {trainer.model.n_parameters():,} parameters: {sizes.n_layer} blocks, "
        f"{sizes.n_head} heads, {sizes.n_embd} wide, context {sizes.context_length}, "
        f"{sizes.vocab_size:,} tokens",
        f"training  {steps.max_steps:,} steps of {steps.batch_size} windows by {steps.optimizer}, "
        f"{' and '.join(f'{times:.1f}' for times in passes)} times through the text",
        f"run       {run_dir}",
    ):
        console.print(line)


def show_samples(
    console: Console, corpus: Corpus, config: RunConfig, run_dir: Path, runtime: Runtime
) -> None:
    """Writes samples.txt, prints three of them, and lets the world judge its own stories."""
    end = corpus.tokenizer.end_of_text
    sampling = SamplingConfig(
        max_new_tokens=config.model.context_length,
        temperature=0.6,
        top_p=0.9,
        seed=config.train.seed,
    )
    model = GPT2Model.load(run_dir).to(runtime.device)  # as it was saved, and not compiled
    rows = generate(model, [[end]] * N_SAMPLES, sampling, stop_token=end)
    texts = [corpus.tokenizer.decode(row) for row in rows]
    together = "\n\n".join(texts) + "\n"
    write_whole(run_dir / "samples.txt", lambda p: p.write_text(together, encoding="utf-8"))
    console.print(
        f"\nThree of {N_SAMPLES} samples in {run_dir / 'samples.txt'}, "
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


def opening(corpus: Corpus) -> str:
    """The first word of the validation text that begins with a capital: a prompt that suits."""
    text = corpus.tokenizer.decode(corpus.validation.tokens[1:1000].tolist())
    words = re.findall(r"\w+", text)
    return next((word for word in words if word[0].isupper()), "")


# generate -----------------------------------------------------------------------------------


def write(arguments: list[str]) -> int:
    """`python main.py generate RUN`: goes on with prompts, and says how fast that was."""
    command = parse_flags(GenerateCommand, "generate", arguments)
    tokenizer = Tokenizer.load(command.run)
    device = choose_runtime(TrainConfig()).device
    model = in_precision(GPT2Model.load(command.run).to(device), command.precision)
    compile_steps(model, command.compile)
    config = replace(
        command,
        banned=spellings(command.ban, tokenizer),
        stop_tokens=(*command.stop_tokens, tokenizer.end_of_text),
    )
    speculation = choose_speculation(command, model)
    if command.interactive:
        return converse(model, tokenizer, config, speculation)
    write_texts(model, tokenizer, config, speculation, prompts_of(command))
    return 0


def in_precision(model: GPT2Model, precision: str) -> GPT2Model:
    """The model with other weights, for inference."""
    if precision == "int8":
        return module_of("quantize").quantize(model)
    return model.to(torch.bfloat16 if precision == "bf16" else torch.float32)


def compile_steps(model: GPT2Model, choice: str) -> None:
    """Where it was asked for, or pays; says so where it takes seconds, or cannot be had."""
    if choice == "off" or (choice == "auto" and not is_large(model.config)):
        return
    wrong = missing(model)
    if choice == "auto" and wrong:
        print(f"steps as written: {wrong}", file=sys.stderr)
        return
    started = time.monotonic()
    try:
        compile_step(model)
    except (ValueError, OSError) as error:  # a broken compiler, a folder that is read-only
        if choice == "on":
            raise
        print(f"steps as written: {' '.join(str(error).split())}", file=sys.stderr)
        return
    seconds = time.monotonic() - started
    if seconds > 1:
        print(f"steps compiled for this machine in {seconds:.1f} s, once", file=sys.stderr)
    if not has_threads():
        print("compiled steps take one thread: the compiler has no OpenMP", file=sys.stderr)


def write_texts(
    model: GPT2Model,
    tokenizer: Tokenizer,
    command: GenerateCommand,
    speculation: Speculation | None,
    prompts: list[str],
) -> None:
    """Goes on with each prompt, in as many samples as asked for."""
    texts = [text for text in prompts for _ in range(command.samples)]
    encoded = {text: tokenizer.encode(text) or [tokenizer.end_of_text] for text in prompts}
    numbers = [number for _ in prompts for number in range(command.samples)]
    rows = [
        Completion(prompt=encoded[text], seed=command.seed + number, rank=number)
        for text, number in zip(texts, numbers, strict=True)
    ]
    display = Display(new_console(), texts, rows, as_json=command.json)
    watch = Stopwatch()
    for _ in generation.write(model, rows, command, tokenizer, speculation):
        watch.tick(rows)
        if command.stream:
            display.update()
    display.update()
    longest = max(map(len, encoded.values())) + command.max_new_tokens
    cache = cache_bytes(model, len(rows) * command.beams, longest)
    print(f"{watch.report()}; cache {cache / 1e6:.1f} MB", file=sys.stderr)
    if speculation and speculation.n_guessed:
        share = speculation.n_accepted / speculation.n_guessed
        print(f"{share:.0%} of {speculation.n_guessed} guesses were right", file=sys.stderr)


def converse(
    model: GPT2Model,
    tokenizer: Tokenizer,
    command: GenerateCommand,
    speculation: Speculation | None,
) -> int:
    """Prompt after prompt from the keyboard. Ctrl-C ends a text, Ctrl-D or an empty line all."""
    on_terminal = sys.stdin.isatty()
    if on_terminal:
        print("Write the beginning of a text. An empty line ends.", file=sys.stderr)
    while True:
        try:
            prompt = input("> " if on_terminal else "")
        except EOFError:
            return 0
        if not prompt:
            return 0
        try:
            write_texts(model, tokenizer, command, speculation, [prompt])
        except KeyboardInterrupt:
            print()
        except ValueError as error:  # of this prompt; the next one may be better
            print(f"error: {error}", file=sys.stderr)


def prompts_of(command: GenerateCommand) -> list[str]:
    """The texts of --prompt and --prompt-file, or one empty one."""
    prompts = [sys.stdin.read() if text == "-" else text for text in command.prompt]
    for path in command.prompt_file:
        require(path.is_file(), f"--prompt-file {path} does not exist; name a text file")
        try:
            prompts.append(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"--prompt-file {path} is not UTF-8 text: {error.reason} at byte {error.start}; "
                "save it as UTF-8"
            ) from None
    return prompts or [""]


def spellings(words: tuple[str, ...], tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """The tokens of each word, at the beginning of a text and behind a space."""
    found = [tuple(tokenizer.encode(word)) for word in words]
    for word in words:
        with suppress(UnseenCharacter):  # a tokenizer of characters may not know the space
            found.append(tuple(tokenizer.encode(" " + word)))
    return tuple(found)


def choose_speculation(command: GenerateCommand, model: GPT2Model) -> Speculation | None:
    """Who guesses, if anyone."""
    vocab_size = model.config.vocab_size
    if command.prompt_lookup:
        return Speculation(PromptLookup(vocab_size), command.guesses)
    if command.draft is None:
        return None
    draft = GPT2Model.load(command.draft).to(model.device)
    compile_steps(draft, command.compile)
    files = [folder / TOKENIZER_FILE for folder in (command.run, command.draft)]
    require(
        files[0].read_bytes() == files[1].read_bytes(),
        f"--draft {command.draft} has another tokenizer than {command.run}; "
        "train it with --data.tokenizer and that run's directory",
    )
    return Speculation(SmallModel(draft, vocab_size), command.guesses)


if __name__ == "__main__":
    gc.freeze()  # what was imported stays: Python need not look through it for garbage
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()  # later nobody could catch that the pipe is closed
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        status = PIPE_CLOSED
    gc.freeze()  # nor, for 0.4 s, through all the rest at the end
    sys.exit(status)
