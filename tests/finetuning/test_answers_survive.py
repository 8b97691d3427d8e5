"""Runs of every method, killed at any moment; those of pairs and rewards in two processes."""

import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from oracles.ports import free_ports
from oracles.small_answers import (
    REWARD_TRAIN,
    dialogue_trainer,
    preference_trainer,
    reward_trainer,
    small_model,
    train_weak_model,
)
from oracles.small_run import TRAIN, log_without_clock

from cfg_gpt2 import TrainConfig
from finetuning.lora_settings import LoraConfig
from training.choose_runtime import choose_runtime
from training.progress import MetricsLog
from training.runtime import Ranks

N_STEPS = 24
N_KILLS = 20
IN_PROCESSES = {"dpo": TRAIN, "reward": REWARD_TRAIN}
METHODS = {"sft": TRAIN, "lora": TRAIN, **IN_PROCESSES}


def train(method: str, folder: Path, out: str, config: TrainConfig, ranks: Ranks) -> list:
    """Begins or resumes a run, trains it to its end, and returns its log."""
    runtime = choose_runtime(config, small_model().config, ranks)
    new_trainer: Callable = {
        "sft": dialogue_trainer,
        "lora": partial(dialogue_trainer, lora=LoraConfig(rank=4)),
        "dpo": preference_trainer,
        "reward": partial(reward_trainer, folder / "weak"),
    }[method]
    with runtime.process_group():
        trainer = new_trainer(folder / out, config, runtime=runtime)
        trainer.state.resume()
        assert trainer.train()
    return log_without_clock(trainer)


def one_process(method: str, folder: Path, out: str) -> None:
    torch.set_num_threads(1)
    long = replace(METHODS[method], max_steps=N_STEPS, eval_every=2)
    train(method, folder, out, long, Ranks())


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed_runs_go_on_to_the_same_bits(method: str, tmp_path: Path) -> None:
    train_weak_model(tmp_path / "weak")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "matplotlib.figure"])
    luck, n_kills, lasts = random.Random(5), 0, 0.0

    def started(out: str) -> BaseProcess:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Python 3.11 forgets it there
            child = context.Process(target=one_process, args=(method, tmp_path, out))
            child.start()
        return child

    for out in ("warm", "straight"):  # the first one starts the server too
        began = time.monotonic()
        child = started(out)
        child.join()
        assert child.exitcode == 0
        lasts = time.monotonic() - began
    while n_kills < N_KILLS:
        child = started("killed")
        child.join(luck.uniform(0, lasts))
        if child.is_alive():
            child.kill()
            child.join()
            n_kills += 1
        if child.exitcode == 0:  # it has come to its end between the kills
            assert_same_bits(tmp_path / "straight", tmp_path / "killed")
            shutil.rmtree(tmp_path / "killed")
    child = started("killed")
    child.join()
    assert child.exitcode == 0
    assert_same_bits(tmp_path / "straight", tmp_path / "killed")


def assert_same_bits(one: Path, other: Path) -> None:
    files = [file.relative_to(one) for file in one.rglob("*.safetensors")]
    assert Path("model.safetensors") in files
    for file in files:  # LoRA's adapter and the reference of pairs too
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    for line, other_line in zip(MetricsLog(one).read(), MetricsLog(other).read(), strict=True):
        for key in ("step", "train_loss", "val_loss", "grad_norm", "tokens", "reward", "margin"):
            assert line.get(key) == other_line.get(key)


def work(rank: int, ports: list[int], folder: Path) -> None:
    """Trains by DPO and by rewards as one of two processes."""
    torch.set_num_threads(1)
    cases = [("dpo", "ddp"), ("dpo", "fsdp"), ("reward", "ddp")]
    for port, (method, strategy) in zip(ports, cases, strict=True):
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": "2",
        }
        config = replace(IN_PROCESSES[method], strategy=strategy, micro_batch=1, compile="off")
        train(method, folder, f"{method}-{strategy}", config, Ranks.read(os.environ))


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    train_weak_model(tmp_path / "weak")
    for method, config in IN_PROCESSES.items():
        train(method, tmp_path, method, config, Ranks())
    torch.multiprocessing.spawn(work, (free_ports(3), tmp_path), nprocs=2)
    for method, strategies in {"dpo": ("ddp", "fsdp"), "reward": ("ddp",)}.items():
        expected = MetricsLog(tmp_path / method).read()
        for strategy in strategies:
            lines = MetricsLog(tmp_path / f"{method}-{strategy}").read()
            for line, other in zip(expected, lines, strict=True):
                for key in ("train_loss", "val_loss", "tokens", "margin", "reward"):
                    assert line.get(key) == pytest.approx(other.get(key), abs=1e-4), strategy
