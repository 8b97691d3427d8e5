"""`python main.py quantize RUN`: what int8 weights save in bytes, and what they cost in bits.

    cost = bits per byte with int8 weights / bits per byte with fp32 weights - 1

Both models read the same tokens of the same text, batch by batch. The command changes no file:
`generate --precision int8` quantizes the weights as it loads them.
Previous: settings.py.  Next: ../commands/generate.py.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from torch import nn

from cfg_gpt2 import TrainConfig, require
from gpt2 import GPT2Model
from load_data import Split, evaluation_batches, load_corpus
from loss import IGNORE_INDEX, bits_per_byte, next_token_loss
from quantization.int8 import quantize
from quantization.settings import QuantizeCommand
from run_directory.config_file import own_data, read_config
from run_directory.open_run import open_run
from tokenizer import Tokenizer
from training.choose_runtime import choose_runtime
from training.kernels import choose_kernels, use_kernels
from training.progress import Bar, new_console

MAX_LOGITS = 1 << 25  # logits that are held at a time: 128 MB in fp32


def compare(command: QuantizeCommand) -> int:
    """Prints the size and the bits per byte of the fp32 and of the int8 model; returns 0."""
    console = new_console()
    model, tokenizer = open_run(command.run)
    models = {"fp32": model, "int8": quantize(GPT2Model.load(command.run))}
    split = read_split(command, tokenizer)
    nats = measure_nats(models, split, tokenizer.end_of_text, console)
    console.print(f"{len(split.tokens) - 1:,} tokens, {split.n_bytes:,} bytes of text")
    for name, model in models.items():
        cost = "" if name == "fp32" else f"  {nats[name] / nats['fp32'] - 1:+.3%}"
        console.print(
            f"{name}  {weight_bytes(model) / 1e6:8.1f} MB  "
            f"{bits_per_byte(nats[name], split.n_bytes):.5f} bits per byte{cost}"
        )
    return 0


def read_split(command: QuantizeCommand, tokenizer: Tokenizer) -> Split:
    """Returns the first tokens of the validation split, with the bytes of their text."""
    data = own_data(command.run) if command.data.path is None else read_config(command.run).data
    data = replace(data, tokenizer=str(command.run), vocab_size=None)
    if command.data.path is not None:
        data = replace(data, path=command.data.path, stories=None)
    tokens = load_corpus(data).validation.tokens[: command.tokens + 1]
    text = tokenizer.decode([id for id in tokens[1:].tolist() if id != tokenizer.end_of_text])
    return Split(np.asarray(tokens), len(text.encode()))


@torch.inference_mode()
def measure_nats(
    models: dict[str, GPT2Model], split: Split, end_of_text: int, console: Console
) -> dict[str, float]:
    """Returns, for each model, the sum of its losses over the tokens of a split, in nats."""
    config = next(iter(models.values())).config
    device = choose_runtime(TrainConfig()).device
    n_rows = max(1, MAX_LOGITS // (config.vocab_size * config.context_length))
    nats = dict.fromkeys(models, 0.0)
    done, total = 0, len(split.tokens) - 1
    for model in models.values():
        model.to(device)
        use_kernels(model, choose_kernels(model.device, model.dtype))
    batches = evaluation_batches(split, config.context_length, n_rows, end_of_text)
    with Bar(console, "reading", total) as bar:
        for tokens, targets in batches:
            tokens, targets = tokens.to(device), targets.to(device)
            for name, model in models.items():
                nats[name] += next_token_loss(model(tokens), targets)[0].item()
                require(
                    math.isfinite(nats[name]),
                    f"the {name} model gives {nats[name]} as its loss: its training has diverged; "
                    "name another run",
                )
            done += int((targets != IGNORE_INDEX).sum())
            bar.move(done)
    return nats


def weight_bytes(model: nn.Module) -> int:
    """Returns the bytes of a model's weights; a matrix that two layers share counts once."""
    tensors = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    return sum(tensor.nbytes for tensor in tensors.values())
