"""`python main.py quantize RUN`: what int8 weights save in bytes, and what they cost in bits.

    cost = bits per byte with int8 weights / bits per byte with the run's own - 1

Both read the same tokens of the same text, batch after batch.
Previous: int8.py.  Next: main.py, where `generate --precision int8` quantizes as it loads.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from torch import nn

from cfg_gpt2 import TrainConfig, require
from commands.flags import parse_flags
from gpt2 import GPT2Model
from load_data import Split, evaluation_batches, load_corpus
from loss import IGNORE_INDEX, bits_per_byte, next_token_loss
from quantization.int8 import quantize
from run_directory.config_file import read_config
from tokenizer import Tokenizer
from training.progress import Bar, new_console
from training.runtime import choose_runtime

LOGITS = 1 << 25  # numbers that are held at a time: 128 MB


@dataclass(frozen=True, kw_only=True)
class Text:
    """What is read."""

    path: tuple[str, ...] | None = None
    """text files, folders, globs or a built-in world; None: what the run learned from."""


@dataclass(frozen=True, kw_only=True)
class QuantizeCommand:
    """Measure what int8 weights save and cost, on the validation split of a text."""

    run: tyro.conf.Positional[Path]  # a run directory, such as runs/tiny
    data: Text = field(default_factory=Text)
    tokens: int = 20_000  # of the text that are read, at most

    def __post_init__(self) -> None:
        require(self.tokens >= 1, f"--tokens {self.tokens} must be 1 or more; try 20000")


def compare(arguments: list[str]) -> int:
    """Prints a line for the run's own weights and one for int8."""
    command = parse_flags(QuantizeCommand, "quantize", arguments)
    console = new_console()
    models = {"fp32": GPT2Model.load(command.run), "int8": quantize(GPT2Model.load(command.run))}
    split = read_split(command, models["fp32"])
    nats = losses(models, split, console)
    plain = nats["fp32"]
    console.print(f"{len(split.tokens) - 1:,} tokens, {split.n_bytes:,} bytes of text")
    for name, model in models.items():
        console.print(
            f"{name}  {n_bytes(model) / 1e6:8.1f} MB  "
            f"{bits_per_byte(nats[name], split.n_bytes):.5f} bits per byte"
            + f"  {nats[name] / plain - 1:+.3%}"
            * (name != "fp32")
        )
    return 0


def read_split(command: QuantizeCommand, model: GPT2Model) -> Split:
    """The first tokens of the validation split, and the bytes of their text."""
    data = read_config(command.run).data
    tokenizer = Tokenizer.load(command.run)
    data = replace(data, tokenizer=str(command.run), vocab_size=None)
    if command.data.path is not None:
        data = replace(data, path=command.data.path, stories=None)
    tokens = load_corpus(data).validation.tokens[: command.tokens + 1]
    require(
        tokenizer.vocab_size <= model.config.vocab_size,
        f"{command.run} has {tokenizer.vocab_size} tokens in its tokenizer and "
        f"{model.config.vocab_size} in its model; name a run that was not mixed from two",
    )
    text = tokenizer.decode([id for id in tokens[1:].tolist() if id != tokenizer.end_of_text])
    return Split(np.asarray(tokens), len(text.encode()))


@torch.inference_mode()
def losses(models: dict[str, GPT2Model], split: Split, console: Console) -> dict[str, float]:
    """What each model pays for the tokens of a split, in nats."""
    config = next(iter(models.values())).config
    end_of_text = int(split.tokens[0])
    device = choose_runtime(TrainConfig()).device
    n_rows = max(1, LOGITS // (config.vocab_size * config.context_length))
    nats = dict.fromkeys(models, 0.0)
    done, total = 0, len(split.tokens) - 1
    for model in models.values():
        model.to(device)
    with Bar(console, "reading", total) as bar:
        for tokens, targets in evaluation_batches(
            split, config.context_length, n_rows, end_of_text
        ):
            tokens, targets = tokens.to(device), targets.to(device)
            for name, model in models.items():
                nats[name] += next_token_loss(model(tokens), targets)[0].item()
            done += int((targets != IGNORE_INDEX).sum())
            bar.move(done)
    return nats


def n_bytes(model: nn.Module) -> int:
    """Of the weights; a matrix that two layers share counts once."""
    tensors = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    return sum(tensor.nbytes for tensor in tensors.values())
