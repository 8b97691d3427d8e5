"""A run of a few seconds on one verse, which the tests of the training loop train."""

from io import StringIO
from pathlib import Path

import torch
from rich.console import Console

from cfg_gpt2 import DataConfig, GPT2Config, RunConfig, TrainConfig
from gpt2 import GPT2Model
from load_data import Corpus, load_corpus
from trainer import LossFunction, Trainer
from training.kernels.cross_entropy import fused_language_model_loss
from training.runtime import Runtime

FP32 = Runtime(torch.device("cpu"), torch.float32)
TRAIN = TrainConfig(
    max_steps=6,
    batch_size=6,
    learning_rate=1e-2,
    final_learning_rate=1e-3,
    warmup_steps=2,
    eval_every=3,
    device="cpu",
    precision="fp32",
)
VERSE = "The cat sat on the mat and the dog lay on the log; the sun was low. "


def verse_corpus(folder: Path, text: str = VERSE * 60) -> Corpus:
    """Returns the corpus of a text, tokenized by characters; its files lie in folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "verse.txt"
    if not file.exists() or file.read_text(encoding="utf-8") != text:  # else its tokens are kept
        file.write_text(text, encoding="utf-8")
    config = DataConfig(path=(str(file),), tokenizer="char", cache_dir=str(folder / "cache"))
    return load_corpus(config)


def new_trainer(
    corpus: Corpus,
    run_dir: Path,
    train: TrainConfig = TRAIN,
    *,
    n_layer: int = 2,
    dropout: float = 0.1,
    loss_fn: LossFunction = fused_language_model_loss,
    runtime: Runtime = FP32,
) -> Trainer:
    """Returns a trainer as `main.py train` makes it, for a model of two small blocks."""
    sizes = GPT2Config(
        vocab_size=corpus.tokenizer.vocab_size,
        context_length=8,
        n_layer=n_layer,
        n_head=2,
        n_embd=16,
        dropout=dropout,
    )
    torch.manual_seed(train.seed)
    run_dir.mkdir(parents=True, exist_ok=True)
    console = Console(file=StringIO(), width=1000)
    config = RunConfig(model=sizes, train=train)
    return Trainer(GPT2Model(sizes), corpus, config, run_dir, runtime, console, loss_fn)


def printed(trainer: Trainer) -> str:
    """Returns everything that a trainer has printed."""
    assert isinstance(trainer.console.file, StringIO)
    return trainer.console.file.getvalue()


def weights(trainer: Trainer) -> torch.Tensor:
    """Returns all parameters of a trainer's model in one vector."""
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def log_without_clock(trainer: Trainer) -> list[dict[str, float]]:
    """Returns the lines of metrics.jsonl without the times, which differ from run to run."""
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in m.items() if k not in timed} for m in trainer.state.log.read()]
