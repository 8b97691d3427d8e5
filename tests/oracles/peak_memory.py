"""The peak memory of three training steps: the resident size of a process of its own (Linux).

Started as `python -m oracles.peak_memory SETTINGS`; prints bytes above the bare process's.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.job import Job
from benchmarks.train_step import random_corpus
from cfg_gpt2 import GPT2Config, RunConfig, TrainConfig
from gpt2 import GPT2Model
from trainer import Trainer
from training.choose_runtime import choose_runtime
from training.kernels.cross_entropy import fused_language_model_loss
from training.progress import new_console

STEPS = 3  # the first one makes the optimizer's states, so the second is the largest


def status(name: str) -> int:
    """Returns VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def forget_peak() -> None:
    """Resets VmHWM, the peak of the resident size."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def train_steps(model: GPT2Config, train: TrainConfig, folder: Path) -> None:
    """Takes the steps of `main.py train` on random tokens."""
    runtime = choose_runtime(train, model)
    torch.manual_seed(1)
    job = Job(
        target="training", name="ours", candidate="ours", scratch=str(folder), model=model,
        batch_size=train.batch_size, device="cpu", precision=train.precision,
    )  # fmt: skip
    config = RunConfig(model=model, train=train)
    corpus = random_corpus(job)
    trainer = Trainer(
        GPT2Model(model),
        corpus,
        config,
        folder,
        runtime,
        new_console(),
        loss_fn=fused_language_model_loss,
    )
    for _ in range(STEPS):
        trainer.take_step()


def measure(model: GPT2Config, train: TrainConfig) -> int:
    """Returns the peak in bytes, without what a process needs that has trained a tiny model."""
    small = GPT2Config(vocab_size=300, context_length=16, n_layer=1, n_head=2, n_embd=32)
    with tempfile.TemporaryDirectory() as folder:
        first = TrainConfig(device="cpu", precision=train.precision, compile=train.compile)
        train_steps(small, first, Path(folder))
        forget_peak()
        bare = status("VmRSS")
        train_steps(model, train, Path(folder))
    return status("VmHWM") - bare


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    print(measure(GPT2Config(**settings["model"]), TrainConfig(**settings["train"])))
