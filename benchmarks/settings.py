"""The flags of each target.

Previous: ../main.py.  Next: command.py.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.job import Device
from cfg_gpt2 import PRESETS, GPT2Config, preset, require, require_count
from commands.flags import parse_flags
from run_directory.printable import main_command


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """The flags that all targets share."""

    rounds: int = 5  # of each candidate; the table gives the median
    steps: int | None = None  # per round; None: as many as take 4 seconds
    warmup: int = 2  # steps before the first round that do not count; compiling is among them
    device: Device = "auto"
    """auto takes a GPU where there is one."""
    out: Path | None = None  # the folder of the result; None: benchmarks/results/DATE-TARGET
    profile: bool = False  # also write the time of each operator
    command_line: Annotated[str, tyro.conf.Suppress] = ""  # as typed, for the result

    def __post_init__(self) -> None:
        require_count("--rounds", self.rounds, advice="; try 5")
        if self.steps is not None:
            require_count("--steps", self.steps, advice="; try 2")
        require(self.warmup >= 0, f"--warmup {self.warmup} must not be negative; try 2")


@dataclass(frozen=True, kw_only=True)
class ComparedSettings(TargetSettings):
    """The flags of targets that are compared with peers."""

    peers: str | None = None
    """the peers to compare with: transformers, peft, trl, tiktoken, ctranslate2, llama_cpp,
    nanogpt=FOLDER, book=FOLDER, separated by commas, or none; None: the packages that are
    installed."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings(TargetSettings):
    """The flags of targets that measure a model."""

    preset: str = "gpt2"
    """gpt2 has 124 million parameters; tiny, shakespeare-char, book, gpt2-medium, gpt2-large or
    gpt2-xl."""
    batch_size: int = 4  # rows of a batch
    context_length: int = 256  # tokens of each row
    n_layer: int | None = None  # None: the preset's
    n_head: int | None = None  # None: the preset's
    n_embd: int | None = None  # None: the preset's

    def model(self) -> GPT2Config:
        """Returns the preset with these sizes, without dropout.

        Raises ValueError where the sizes do not fit together.
        """
        require_count("--batch-size", self.batch_size, advice="; try 4")
        base = preset(self.preset).model
        try:
            return replace(
                base,
                dropout=0.0,
                context_length=self.context_length,
                n_layer=base.n_layer if self.n_layer is None else self.n_layer,
                n_head=base.n_head if self.n_head is None else self.n_head,
                n_embd=base.n_embd if self.n_embd is None else self.n_embd,
            )
        except ValueError as error:
            raise ValueError(str(error).replace("--model.", "--")) from None


@dataclass(frozen=True, kw_only=True)
class Training(ModelSettings, ComparedSettings):
    """Tokens per second of a whole training step and its memory, compared with every peer."""


@dataclass(frozen=True, kw_only=True)
class Finetuning(ModelSettings, ComparedSettings):
    """Tokens per second and memory of LoRA, compared with all weights and with every peer."""


@dataclass(frozen=True, kw_only=True)
class Scaling(ModelSettings):
    """Cost of the project's training step as batch, context, layers and width grow."""

    rounds: int = 3  # of each point; the table gives the median


@dataclass(frozen=True, kw_only=True)
class Decoding(ModelSettings, ComparedSettings):
    """Generated tokens per second, for one text at a time and for a batch."""

    batch_size: int = 8  # texts of the batch; one text is measured as well
    context_length: int = 1024  # of the model; prompt and new tokens must fit into it
    prompt_length: int = 32  # tokens of each prompt
    new_tokens: int = 128  # tokens to generate

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag, value in (("prompt-length", self.prompt_length), ("new-tokens", self.new_tokens)):
            require_count(f"--{flag}", value)
        total = self.prompt_length + self.new_tokens
        require(
            total <= self.context_length,
            f"--prompt-length {self.prompt_length} and --new-tokens {self.new_tokens} are more "
            f"than --context-length {self.context_length}; try --new-tokens "
            f"{max(1, self.context_length - self.prompt_length)}",
        )


@dataclass(frozen=True, kw_only=True)
class Tokenizing(ComparedSettings):
    """Megabytes of text per second that are encoded."""

    text: Path | None = None  # a UTF-8 file; None: stories of the built-in tiny world
    vocabulary: Path | None = None  # a folder with GPT-2's; None: a BPE trained on the text
    vocab_size: int = 2048  # of the trained BPE

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.vocab_size >= 257,
            f"--vocab-size {self.vocab_size} must be at least 257: 256 bytes and the end; try 2048",
        )


@dataclass(frozen=True, kw_only=True)
class Loading(TargetSettings):
    """Tokens per second that are read from a token file into batches."""

    batch_size: int = 4  # windows in a batch
    context_length: int = 256  # tokens in a window

    def model(self) -> GPT2Config:
        """Returns GPT-2 small with this context length."""
        for name in ("batch_size", "context_length"):
            value = getattr(self, name)
            require_count(f"--{name.replace('_', '-')}", value)
        return replace(PRESETS["gpt2"], context_length=self.context_length)


TARGETS = {
    "training": (Training, "a whole training step, against every peer"),
    "finetuning": (Finetuning, "a step of LoRA, against one of all weights and every peer"),
    "decoding": (Decoding, "generating text"),
    "tokenizing": (Tokenizing, "text to token ids"),
    "loading": (Loading, "token files to batches"),
    "scaling": (Scaling, "the project's cost as batch, context, layers, width grow"),
}


def read_benchmark_command(arguments: list[str]) -> TargetSettings:
    """Returns the settings of a target. Raises ValueError where flags are wrong.

    Without a target it prints the list of them and ends the program.
    """
    if arguments[:1] in (["--help"], ["-h"]) or not arguments:
        print(overview())
        raise SystemExit(0 if arguments else 2)
    name, *flags = arguments
    known = ", ".join(TARGETS)
    require(name in TARGETS, f"benchmark {name} is unknown; choose one of {known}")
    settings = parse_flags(TARGETS[name][0], f"benchmark {name}", flags)
    return replace(settings, command_line=main_command("benchmark", *arguments))


def overview() -> str:
    """Returns the help text, with a line for each target."""
    targets = [f"  python main.py benchmark {name:10} {TARGETS[name][1]}" for name in TARGETS]
    return "\n".join(
        [
            "Measures speed in comparison with other GPT-2s on this machine: first the limits of",
            "the machine, then all candidates in interleaved rounds. Writes a table and a picture.",
            "",
            *targets,
            "",
            "python main.py benchmark TARGET --help lists the target's settings.",
            "Quick: python main.py benchmark training --preset tiny --rounds 3 --steps 5",
        ]
    )
