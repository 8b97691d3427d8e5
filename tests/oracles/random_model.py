"""A model whose heads look at something and whose biases are not zero, unlike a fresh one."""

from pathlib import Path

import torch

from cfg_gpt2 import DataConfig, GPT2Config, RunConfig
from gpt2 import GPT2Model
from tokenizer import Tokenizer
from visualization.capture import capture
from visualization.inspection import Inspection

SIZES = GPT2Config(vocab_size=61, context_length=24, n_layer=3, n_head=4, n_embd=32, dropout=0.1)


def random_model(sizes: GPT2Config = SIZES, std: float = 0.25, seed: int = 1) -> GPT2Model:
    """Returns a model, with dropout off, whose parameters are drawn with one deviation."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT2Model(sizes).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm.weight" in name else 0.0
            parameter.normal_(centre, std, generator=generator)
    return model


def inspection_of(model: GPT2Model, tokens: list[int]) -> Inspection:
    """Returns what the views are made from, with letters as tokens."""
    letters = "".join(chr(ord("A") + number) for number in range(model.config.vocab_size - 1))
    return Inspection(
        run=Path("runs/random"),
        config=RunConfig(
            model=model.config, data=DataConfig(path=("letters.txt",), tokenizer="char")
        ),
        model=model,
        tokenizer=Tokenizer.characters([letters]),
        trace=capture(model, torch.tensor([tokens])),
        language="en",
        layers=tuple(range(model.config.n_layer)),
        heads=tuple(range(model.config.n_head)),
    )
