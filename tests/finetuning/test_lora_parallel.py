"""LoRA in several processes: each keeps the frozen weights, or a share of them, as one does."""

import os
import shutil
from copy import deepcopy
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.multiprocessing
from oracles.ports import free_ports
from oracles.small_run import verse_corpus
from rich.console import Console
from safetensors.torch import load_file

from cfg_gpt2 import GPT2Config, RunConfig, TrainConfig
from finetuning.lora import add_lora, merge
from finetuning.lora_settings import LoraConfig
from gpt2 import GPT2Model
from trainer import Trainer
from training.choose_runtime import choose_runtime
from training.kernels.cross_entropy import fused_language_model_loss
from training.progress import MetricsLog
from training.runtime import Ranks

LORA = LoraConfig(rank=5, alpha=7)
SIZES = GPT2Config(
    vocab_size=1, context_length=8, n_layer=2, n_head=2, n_embd=18, dropout=0.0
)  # fmt: skip
TRAIN = TrainConfig(
    max_steps=6,
    batch_size=5,
    micro_batch=2,
    eval_every=3,
    warmup_steps=2,
    learning_rate=1e-2,
    device="cpu",
    precision="fp32",
    compile="off",
)


def train(out: Path, config: TrainConfig, ranks: Ranks, begun: Path | None = None) -> None:
    """Trains LoRA on a random model in this process, together with the others of its group."""
    runtime = choose_runtime(config, SIZES, ranks)
    with runtime.process_group():
        corpus = runtime.local_rank_zero_first(lambda: verse_corpus(out.parent))
        sizes = replace(SIZES, vocab_size=corpus.tokenizer.vocab_size)
        torch.manual_seed(1)
        model = GPT2Model(sizes)
        base = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        add_lora(model, LORA, config.seed)
        trainer = Trainer(
            model,
            corpus,
            RunConfig(model=sizes, train=config),
            out,
            runtime,
            Console(file=StringIO()),
            fused_language_model_loss,
            publish=lambda trained: merge(deepcopy(base), trained, LORA),
        )
        if begun:
            runtime.on_rank_zero(lambda: copy_half(begun, out))
            trainer.state.resume()
            assert trainer.state.step == 3
        runtime.on_rank_zero(lambda: out.mkdir(exist_ok=True))
        assert trainer.train()


def copy_half(run: Path, copy: Path) -> None:
    """Copies a run as it was after step 3."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints" / "step-000006")


def work(rank: int, ports: list[int], folder: Path, precision: Literal["fp32", "bf16"]) -> None:
    """Trains by DDP, by FSDP, and by FSDP what DDP has begun, as one of two processes."""
    torch.set_num_threads(1)
    train_config = replace(TRAIN, precision=precision)
    ddp, fsdp = (replace(train_config, strategy=strategy) for strategy in ("ddp", "fsdp"))
    cases = {
        "ddp": (ddp, None),
        "fsdp": (replace(fsdp, activation_checkpointing=True), None),
        "fsdp-from-ddp": (fsdp, folder / "ddp"),
    }
    for port, (out, (config, begun)) in zip(ports, cases.items(), strict=True):
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": "2",
        }
        train(folder / out, config, Ranks.read(os.environ), begun)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision, weight_error, error", [("fp32", 5e-5, 1e-5), ("bf16", 0.02, 0.01)]
)
def test_two_processes_learn_what_one_learns(
    precision: Literal["fp32", "bf16"], weight_error: float, error: float, tmp_path: Path
) -> None:
    """In bf16 frozen matrices are kept in bf16, and sums of other orders round coarsely."""
    train(tmp_path / "one", replace(TRAIN, precision=precision), Ranks())
    torch.multiprocessing.spawn(work, (free_ports(3), tmp_path, precision), nprocs=2)
    expected, lines = (
        load_file(tmp_path / "one" / "model.safetensors"),
        MetricsLog(tmp_path / "one"),
    )
    for name in ("ddp", "fsdp", "fsdp-from-ddp"):
        weights = load_file(tmp_path / name / "model.safetensors")
        torch.testing.assert_close(weights, expected, atol=weight_error, rtol=0)
        for line, other in zip(lines.read(), MetricsLog(tmp_path / name).read(), strict=True):
            for key in ("train_loss", "val_loss", "grad_norm"):
                assert line.get(key) == pytest.approx(other.get(key), abs=error)
