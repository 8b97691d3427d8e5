"""The memory that plan computes, against autograd's saved tensors and against measured peaks.

Peaks are measured in a process of their own, in an environment where malloc returns freed memory
to the system, so that no gaps are counted.
"""

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import main
from cfg_gpt2 import GPT2Config, TrainConfig
from diagnostics.plan.estimate import Plan
from diagnostics.plan.memory import (
    Memory,
    Setup,
    bf16_copies,
    saved_by_block,
    saved_by_head,
    saved_outside_blocks,
)
from diagnostics.plan.settings import PlanCommand
from gpt2 import GPT2Model
from training.kernels import choose_kernels, use_kernels
from training.kernels.cross_entropy import linear_cross_entropy

ROOT = Path(main.__file__).parent
B, T = 2, 24
SMALL = GPT2Config(vocab_size=101, context_length=T, n_layer=2, n_head=5, n_embd=35, dropout=0.0)


class SavedTensors:
    """Counts the storages that autograd saves, each once, without parameters."""

    def __init__(self, model: GPT2Model) -> None:
        self.known = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.storages: dict[int, torch.UntypedStorage] = {}  # alive, so that none comes twice
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.storages[storage.data_ptr()] = storage
        return tensor

    @property
    def n_bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


def prepared_model(sizes: GPT2Config, *, bf16: bool) -> GPT2Model:
    """A model in training mode with the kernels that a runtime attaches on a CPU."""
    model = GPT2Model(sizes).train()
    precision = torch.bfloat16 if bf16 else torch.float32
    use_kernels(model, choose_kernels(torch.device("cpu"), precision))
    return model


def matmuls(*, bf16: bool) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("length", [T, 520])  # in bf16 a CPU computes up to 512 keys explicitly
@pytest.mark.parametrize("bias", [True, False])
def test_a_block_saves_the_listed_bytes(
    bf16: bool, dropout: float, length: int, bias: bool
) -> None:
    sizes = replace(SMALL, dropout=dropout, context_length=length, bias=bias)
    model = prepared_model(sizes, bf16=bf16)
    x = torch.randn(B, length, sizes.n_embd, requires_grad=True)
    saved = SavedTensors(model)
    with matmuls(bf16=bf16), saved.hooks:
        result = model.blocks[0](x)
    setup = Setup(model=sizes, device="cpu", bf16=bf16, micro_batch=B)
    assert result.shape == x.shape
    assert saved.n_bytes == saved_by_block(setup) + bf16_copies(setup)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_model_and_its_loss_save_the_listed_bytes(bf16: bool, dropout: float) -> None:
    sizes = replace(SMALL, dropout=dropout)
    model = prepared_model(sizes, bf16=bf16)
    tokens = torch.randint(sizes.vocab_size, (B, T))
    saved = SavedTensors(model)
    with matmuls(bf16=bf16), saved.hooks:
        hidden_states = model.hidden_states(tokens)
        loss, _ = linear_cross_entropy(hidden_states, model.lm_head.weight, tokens.roll(-1))
    setup = Setup(model=sizes, device="cpu", bf16=bf16, micro_batch=B)
    blocks = sizes.n_layer * (saved_by_block(setup) + bf16_copies(setup))
    assert loss.requires_grad
    assert saved.n_bytes == blocks + saved_outside_blocks(setup) + saved_by_head(setup)


def test_weights_gradients_and_states_have_the_optimizers_sizes() -> None:
    for muon in (False, True):
        setup = Setup(model=SMALL, device="cpu", muon=muon)
        n_parameters = GPT2Model(SMALL).n_parameters()
        parts = Memory(setup).phases["optimizer"]
        assert parts["weights"] == parts["gradients"] == 4 * n_parameters
        in_blocks = 2 * 12 * 35**2 if muon else 0
        assert parts["optimizer"] == 8 * (n_parameters - in_blocks) + 4 * in_blocks


def test_a_shard_is_smaller_than_the_whole() -> None:
    whole = Setup(model=GPT2Config(), device="cuda", bf16=True, n_ranks=8, strategy="ddp")
    shard = replace(whole, strategy="fsdp")
    persistent = [Memory(setup).phases["forward"] for setup in (whole, shard)]
    assert (
        persistent[0]["gradients"] == persistent[0]["weights"]
    )  # in DDP's buckets, from step to step
    assert persistent[1]["weights"] * 8 == pytest.approx(persistent[0]["weights"], abs=8)
    assert persistent[1]["optimizer"] * 8 == pytest.approx(persistent[0]["optimizer"], abs=8)
    assert Memory(shard).peak < Memory(whole).peak
    light = replace(whole, checkpointing=True, micro_batch=8)
    assert Memory(light).peak < Memory(replace(light, checkpointing=False)).peak


# Measured -----------------------------------------------------------------------------------

SIZES = {
    "8M": (
        GPT2Config(vocab_size=2048, context_length=256, n_layer=6, n_head=4, n_embd=256),
        TrainConfig(batch_size=16),
    ),
    "30M": (
        GPT2Config(vocab_size=20000, context_length=256, n_layer=6, n_head=6, n_embd=384),
        TrainConfig(batch_size=8, micro_batch=4),
    ),
    "124M": (GPT2Config(context_length=256), TrainConfig(batch_size=2)),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
@pytest.mark.parametrize(
    ("size", "changes", "dropout", "tolerance"),
    [
        *((size, {"precision": p}, 0.0, 0.15) for size in SIZES for p in ("fp32", "bf16")),
        ("8M", {"optimizer": "muon", "precision": "fp32"}, 0.0, 0.15),
        ("30M", {"precision": "fp32"}, 0.1, 0.15),
        ("30M", {"precision": "bf16", "compile": "on"}, 0.0, 0.15),
        # the compiler's own memory, some 50 to 100 MB, is in the process and not in the plan
        ("30M", {"precision": "fp32", "compile": "on"}, 0.0, 0.2),
    ],
)
def test_the_peak_is_near_the_measured_one(
    size: str, changes: dict[str, str], dropout: float, tolerance: float
) -> None:
    settings = {"device": "cpu", "compile": "off", **changes}
    model, train = replace(SIZES[size][0], dropout=dropout), replace(SIZES[size][1], **settings)
    planned = Plan(PlanCommand(model=model, train=train)).memory_at_peak.peak
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "oracles.peak_memory",
            json.dumps({"model": model.__dict__, "train": train.__dict__}),
        ],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=os.environ
        | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
        },
    )
    measured = int(process.stdout.split()[-1])
    print(f"{size} {changes} dropout {dropout}: {planned / measured:.3f}")
    assert planned == pytest.approx(measured, rel=tolerance)
