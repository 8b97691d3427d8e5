"""A run on a built-in world with random weights and snapshots: made in less than a second."""

from dataclasses import replace
from pathlib import Path

import torch

from cfg_gpt2 import DataConfig, GPT2Config, RunConfig, TrainConfig
from data.tiny_world.stories import LANGUAGES, corpus
from gpt2 import GPT2Model
from run_directory.config_file import write_config
from tokenizer import Tokenizer
from training.snapshots import Snapshots

STEPS = (0, 2, 8)  # of the snapshots


def new_world_run(folder: Path, path: str = "tiny-world", vocab_size: int = 700) -> Path:
    """Returns a run directory whose text is a world's, or said to be another."""
    name = path if path in LANGUAGES else "tiny-world"
    stories, _ = corpus(LANGUAGES[name], 150, 0)
    tokenizer = Tokenizer.train([story.text for story in stories], vocab_size)
    sizes = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        context_length=176,
        n_layer=2,
        n_head=2,
        n_embd=16,
        dropout=0.0,
    )
    data, train = DataConfig(path=(path,), stories=200), TrainConfig(snapshots=2, max_steps=8)
    write_config(folder, RunConfig(model=sizes, data=data, train=train))
    tokenizer.save(folder)
    torch.manual_seed(1)
    model, snapshots = GPT2Model(replace(sizes)), Snapshots(folder, 2, 8)
    for step in STEPS:
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        snapshots.write(step, dict(model.named_parameters()))
    model.save(folder)
    return folder
