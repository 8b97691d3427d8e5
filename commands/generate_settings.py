"""GenerateCommand: the settings of `generate`, made from its flags before torch is imported.

Previous: train.py.  Next: generate.py.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from cfg_gpt2 import require, require_count
from commands.flags import parse_flags, rename_flag
from decoding.settings import Repeated, SamplingConfig

MAX_SAMPLES = 100_000  # each takes some kB beside its cache, for its random generator


@dataclass(frozen=True, kw_only=True)
class GenerateCommand:
    """Let a trained model continue a prompt, token by token."""

    run: tyro.conf.Positional[Path]  # a run directory, such as runs/tiny
    best: bool = False  # the weights with the lowest validation loss, not the newest
    prompt: Repeated[tuple[str, ...]] = ()
    """the text to continue; empty: a new document; -: standard input; may be given again"""
    prompt_file: Repeated[tuple[Path, ...]] = ()  # a file with a prompt; may be given again
    samples: int = 1  # texts for each prompt, with seeds seed, seed + 1, ...; of beams the best
    special_tokens: bool = False  # read <|endoftext|> and the like in a prompt as one token each
    ban: Repeated[tuple[str, ...]] = ()  # a word that is not written; may be given again
    stream: bool = True  # show the text while it is being written
    json: bool = False  # a line of JSON for each text: tokens, log-probabilities, why it ended
    interactive: bool = False  # ask for prompts, one after the other
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """of the weights; int8: a quarter of the bytes, at a cost that main.py quantize tells."""
    native: Literal["auto", "on", "off"] = "auto"
    """the decode step in C++, compiled once for this machine; auto takes it for models of 10 M
    parameters and more, on a CPU, where there is a compiler."""
    draft: Path | None = None  # a smaller run with the same tokenizer: it guesses, the run checks
    prompt_lookup: bool = False  # guess what followed the same words before; the run checks
    guesses: int = 4  # of --draft or --prompt-lookup at a time
    sampling: tyro.conf.OmitArgPrefixes[SamplingConfig] = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        require_count("--samples", self.samples, MAX_SAMPLES)
        require_count("--guesses", self.guesses, advice="; try 4")
        if self.sampling.temperature == 0:
            require(
                self.samples <= self.sampling.beams,
                f"--samples {self.samples} would be the same text: at --temperature 0 there are "
                f"as many as --beams {self.sampling.beams}; raise one of the two",
            )
        require(
            self.prompt.count("-") <= 1,
            "--prompt - is given twice; standard input can be read once",
        )
        require(
            not (self.interactive and (self.prompt or self.prompt_file)),
            "--interactive asks for prompts; leave out --prompt and --prompt-file",
        )
        several = [self.draft, self.prompt_lookup, self.sampling.beams > 1]
        require(
            sum(map(bool, several)) <= 1,
            "--draft, --prompt-lookup and --beams exclude each other; choose one",
        )


def read_generate_command(arguments: list[str]) -> GenerateCommand:
    """Returns the settings of `generate`. Raises ValueError where flags are wrong."""
    arguments = rename_flag(arguments, "--compile", "--native")
    return parse_flags(GenerateCommand, "generate", arguments)
