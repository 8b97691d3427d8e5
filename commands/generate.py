"""`python main.py generate RUN`: a trained model continues prompts.

Previous: generate_settings.py.  Next: engines.py.
"""

import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from cfg_gpt2 import TrainConfig, require
from commands.engines import load_engine
from commands.generate_settings import GenerateCommand
from commands.prompts import BYTE_ORDER_MARK, hint_about_escapes, read_prompts, utf8_text
from commands.streams import say
from decoding.display import Display, Stopwatch
from decoding.engine import cache_bytes, generate_rows
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from decoding.speculative import DraftModel, PromptLookup, Speculation
from gpt2 import GPT2Model
from run_directory.generation_config import GenerationTokens, read_generation_tokens
from run_directory.open_run import open_tokenizer
from run_directory.paths import explain
from tokenizer import TOKENIZER_FILE, Tokenizer, UnseenCharacter
from training.best_checkpoint import load_newest_or_best
from training.choose_runtime import choose_runtime, is_large
from training.kernels import choose_kernels, use_kernels
from training.machine import total_memory
from training.memory import keep_memory
from training.progress import new_console


def with_utf8_texts(command: GenerateCommand) -> GenerateCommand:
    """Returns the command with the texts of its flags as UTF-8; ValueError where they are not."""

    def read(texts: tuple[str, ...], flag: str) -> tuple[str, ...]:
        return tuple(utf8_text(text, flag) for text in texts)

    sampling = replace(command.sampling, stop=read(command.sampling.stop, "--stop"))
    prompt, ban = read(command.prompt, "--prompt"), read(command.ban, "--ban")
    return replace(command, prompt=prompt, ban=ban, sampling=sampling)


def generate(command: GenerateCommand) -> int:
    """`python main.py generate RUN`: continues prompts, and says how fast that was."""
    command = with_utf8_texts(command)
    flags = {"--prompt": command.prompt, "--stop": command.sampling.stop, "--ban": command.ban}
    for flag, texts in flags.items():
        if hint := hint_about_escapes(flag, texts):
            say(hint)
    model, tokenizer, tokens = open_for_generation(
        command.run, best=command.best, precision=command.precision, native=command.native
    )
    sampling = replace(
        command.sampling,
        banned=banned_sequences(command.ban, tokenizer),
        stop_tokens=(*command.sampling.stop_tokens, *tokens.eos_token_id),
    )
    speculation = choose_speculation(command, model)
    writer = Writer(command, model, tokenizer, tokens.bos_token_id, sampling, speculation)
    if command.interactive:
        return writer.interact()
    writer.write(read_prompts(command.prompt, command.prompt_file))
    return 0


class ReadyRun(NamedTuple):
    """A run's model as it generates here, its tokenizer, and the tokens that bound its texts."""

    model: GPT2Model
    tokenizer: Tokenizer
    tokens: GenerationTokens


def open_for_generation(run: Path, *, best: bool, precision: str, native: str) -> ReadyRun:
    """Returns a run's model in its precision, on this machine's device, with its fastest steps.

    Raises FileNotFoundError where a file is missing, ValueError where one is broken or a step that
    was asked for cannot be compiled.
    """
    device = choose_runtime(TrainConfig()).device
    model, _ = load_newest_or_best(run, best=best, report=say)
    tokenizer = open_tokenizer(run, model)
    tokens = read_generation_tokens(run, tokenizer)
    model = to_precision(model.to(device), precision)
    use_kernels(model, choose_kernels(model.device, model.dtype))
    use_native(model, native)
    keep_memory()  # after loading, so that the weights' own copies are returned
    return ReadyRun(model, tokenizer, tokens)


@dataclass(frozen=True)
class Writer:
    """A model with all that decides how it continues a prompt and how the text is shown."""

    command: GenerateCommand
    model: GPT2Model
    tokenizer: Tokenizer
    first_token: int  # an empty prompt is this token
    sampling: SamplingConfig
    speculation: Speculation | None

    def write(self, prompts: list[str]) -> None:
        """Continues each prompt, in as many samples as asked for, and reports the speed."""
        command, sampling = self.command, self.sampling
        special = command.special_tokens
        encoded = {
            text: self.tokenizer.encode(text, allow_special=special) or [self.first_token]
            for text in prompts
        }
        longest = max(map(len, encoded.values())) + sampling.max_new_tokens
        self.require_room(len(prompts) * command.samples, longest)
        texts = [text for text in prompts for _ in range(command.samples)]
        numbers = [number for _ in prompts for number in range(command.samples)]
        rows = [
            RowState(prompt=encoded[text], seed=sampling.seed + number, rank=number)
            for text, number in zip(texts, numbers, strict=True)
        ]
        display = Display(new_console(), texts, rows, as_json=command.json)
        watch = Stopwatch()
        for _ in generate_rows(self.model, rows, sampling, self.tokenizer, self.speculation):
            watch.record(rows)
            if command.stream:
                display.update()
        display.update()
        cache = cache_bytes(self.model, len(rows) * sampling.beams, longest)
        say(f"{watch.report()}; cache {cache / 1e6:.1f} MB")
        guesses = self.speculation
        if guesses and guesses.n_proposed:
            share = guesses.n_accepted / guesses.n_proposed
            say(f"{share:.0%} of {guesses.n_proposed} guesses were right")

    def require_room(self, n_rows: int, n_tokens: int) -> None:
        """Raises ValueError where no memory here holds the cache of so many rows."""
        if self.sampling.beams > 1 or self.speculation:  # row after row
            n_rows = self.sampling.beams
        need, there = cache_bytes(self.model, n_rows, n_tokens), total_memory(self.model.device)
        require(
            not there or need <= there,
            f"--samples {self.command.samples} with --beams {self.sampling.beams} takes at least "
            f"{need // 10**6:,} MB for its cache, {self.model.device.type} has "
            f"{there // 10**6:,} MB; ask for fewer at once",
        )

    def interact(self) -> int:
        """Asks for prompts. Ctrl-C ends a text; Ctrl-D or an empty line ends the command."""
        on_terminal = sys.stdin.isatty()
        if on_terminal:
            say("Write the beginning of a text. An empty line ends.")
        while True:
            try:
                prompt = input("> " if on_terminal else "").removeprefix(BYTE_ORDER_MARK)
            except EOFError:
                return 0
            if not prompt:
                return 0
            try:
                self.write([utf8_text(prompt, "the prompt")])
            except KeyboardInterrupt:
                print()
            except ValueError as error:  # of this prompt; the next one may be better
                say(f"error: {error}")


def to_precision(model: GPT2Model, precision: str) -> GPT2Model:
    """Returns the model with weights of another precision, for inference."""
    if precision == "int8":
        return load_engine("int8").quantize(model)
    return model.to(torch.bfloat16 if precision == "bf16" else torch.float32)


def use_native(model: GPT2Model, choice: str) -> None:
    """Puts the native decode step into a model where it was asked for, or where it pays.

    With "auto" a machine that cannot compile it gets one line on standard error.
    Raises ValueError or OSError with "on" where it cannot be compiled.
    """
    if choice == "off" or (choice == "auto" and not is_large(model.config)):
        return
    started = time.monotonic()
    try:
        native = load_engine("native")
        native.compile_model(model)
    except (ValueError, OSError, ImportError) as error:  # no compiler, a read-only folder ...
        if choice == "on":
            raise
        reason = explain(error) if isinstance(error, OSError) else str(error)
        say(f"decode steps run in PyTorch: {' '.join(reason.split())}")
        return
    seconds = time.monotonic() - started
    if seconds > 1:
        say(f"native step compiled for this machine in {seconds:.1f} s, once")
    if not native.has_threads():
        say("the native step takes one thread: the compiler has no OpenMP")


def banned_sequences(words: tuple[str, ...], tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Returns the tokens of each word, at the beginning of a text and after a space."""
    sequences = [tuple(tokenizer.encode(word)) for word in words]
    for word in words:
        with suppress(UnseenCharacter):  # a tokenizer of characters may not know the space
            sequences.append(tuple(tokenizer.encode(" " + word)))
    return tuple(sequences)


def choose_speculation(command: GenerateCommand, model: GPT2Model) -> Speculation | None:
    """Returns the draft that proposes tokens, where one was asked for."""
    vocab_size = model.config.vocab_size
    if command.prompt_lookup:
        return Speculation(PromptLookup(vocab_size), command.guesses)
    if command.draft is None:
        return None
    draft = GPT2Model.load(command.draft).to(model.device)
    use_kernels(draft, choose_kernels(draft.device, draft.dtype))
    use_native(draft, command.native)
    files = [folder / TOKENIZER_FILE for folder in (command.run, command.draft)]
    require(
        files[0].read_bytes() == files[1].read_bytes(),
        f"--draft {command.draft} has another tokenizer than {command.run}; "
        "train it with --data.tokenizer and that run's directory",
    )
    return Speculation(DraftModel(draft, vocab_size), command.guesses)
