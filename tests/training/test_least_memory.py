"""training/least_memory.py: what no memory holds is refused, with the flag and what fits."""

import re
from dataclasses import replace

import pytest
import torch

from cfg_gpt2 import GPT2Config, TrainConfig, preset
from training import least_memory
from training.least_memory import FLAGS, require_memory
from training.runtime import Ranks, Runtime

CPU = Runtime(torch.device("cpu"), torch.float32)
SIZES = GPT2Config(vocab_size=1000, context_length=64, n_layer=2, n_head=4, n_embd=64)


@pytest.fixture(autouse=True)
def sixteen_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_memory, "total_memory", lambda device: 16 * 10**9)


@pytest.mark.parametrize("name", ["tiny", "shakespeare-char", "book", "gpt2", "gpt2-medium"])
def test_presets_fit_into_16_gigabytes(name: str) -> None:
    config = preset(name)
    require_memory(config.model, config.train, CPU, config.model.vocab_size)


@pytest.mark.parametrize("field", ["batch_size", "n_layer", "n_embd", "context_length"])
def test_the_value_that_is_proposed_fits_and_the_next_one_does_not(field: str) -> None:
    def check(value: int) -> None:
        train = TrainConfig(batch_size=4, micro_batch=2)
        if field == "batch_size":
            require_memory(SIZES, replace(train, batch_size=value), CPU)
        else:
            require_memory(replace(SIZES, **{field: value}), train, CPU)

    huge = 10**9 if field == "batch_size" else 2**24
    with pytest.raises(ValueError) as caught:
        check(huge)
    flag = FLAGS[field]
    match = re.fullmatch(
        rf"{flag} {huge} takes at least .* GB; at most {flag} (\d+) fits", str(caught.value)
    )
    assert match, caught.value
    check(int(match[1]))
    with pytest.raises(ValueError, match="takes at least"):
        check(int(match[1]) + (4 if field == "n_embd" else 1))


def test_a_smaller_micro_batch_is_proposed_before_anything_that_changes_the_result() -> None:
    train = TrainConfig(batch_size=512)
    with pytest.raises(
        ValueError, match=r"--train.micro-batch 512 takes .* --train.micro-batch \d"
    ):
        require_memory(preset("gpt2").model, train, CPU)
    require_memory(preset("gpt2").model, replace(train, micro_batch="auto"), CPU)
    gpu = replace(CPU, device=torch.device("cuda"))  # halves its micro-batches by itself
    require_memory(preset("gpt2").model, train, gpu)


def test_processes_of_a_host_share_its_memory_and_fsdp_shares_the_weights() -> None:
    large, train = preset("gpt2-large").model, TrainConfig(batch_size=8, micro_batch=1)
    require_memory(large, train, CPU)
    two = replace(CPU, ranks=Ranks(0, 2, 0, 2, from_torchrun=True))
    with pytest.raises(ValueError, match=r"takes at least 12\.\d GB, cpu has 8\.0 GB"):
        require_memory(large, train, two)
    require_memory(large, replace(train, strategy="fsdp"), two)


def test_sizes_that_no_single_flag_mends_and_unknown_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    huge = replace(SIZES, n_layer=2**20, n_embd=2**20, context_length=2**20)
    with pytest.raises(ValueError, match="a model of these sizes takes at least"):
        require_memory(huge, TrainConfig(), CPU)
    monkeypatch.setattr(least_memory, "total_memory", lambda device: 0)
    require_memory(huge, TrainConfig(), CPU)


def test_frozen_weights_need_neither_gradients_nor_moments() -> None:
    model, train = preset("gpt2-large").model, TrainConfig(batch_size=1)
    sizes = replace(model, n_layer=100)  # 2 billion parameters
    require_memory(sizes, train, CPU, is_frozen=True)
    with pytest.raises(ValueError, match="takes at least"):
        require_memory(sizes, train, CPU)
