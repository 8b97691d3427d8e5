"""Opening a finished run: its model and the tokenizer that the model was trained with.

Previous: train_bpe.py.  Next: generation_config.py.
"""

from pathlib import Path
from typing import NamedTuple

from cfg_gpt2 import require
from gpt2 import GPT2Model
from tokenizer import Tokenizer


class OpenedRun(NamedTuple):
    """A run's model, in fp32 on the CPU with dropout off, and its tokenizer."""

    model: GPT2Model
    tokenizer: Tokenizer


def open_run(run_dir: Path) -> OpenedRun:
    """Reads the model and the tokenizer of a run directory.

    Raises FileNotFoundError where a file is missing, ValueError where a file is broken or the two
    do not belong together.
    """
    model = GPT2Model.load(run_dir)  # first, for config.json tells whether it is a run at all
    return OpenedRun(model, open_tokenizer(run_dir, model))


def open_tokenizer(run_dir: Path, model: GPT2Model) -> Tokenizer:
    """Reads the tokenizer of a run directory whose model is open already.

    Raises FileNotFoundError where it is missing, ValueError where it is broken or the model's
    embedding has no room for it.
    """
    tokenizer = Tokenizer.load(run_dir)
    require(
        tokenizer.vocab_size <= model.config.vocab_size,
        f"{run_dir} has {tokenizer.vocab_size} tokens in its tokenizer and "
        f"{model.config.vocab_size} in its model; name a run that was not mixed from two",
    )
    return tokenizer
