"""training/flops.py: operations against torch's counter, parameters against the model's."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cfg_gpt2 import PRESETS, GPT2Config
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from training.flops import matmul_weights, operations, parameters

SMALL = GPT2Config(vocab_size=64, context_length=12, n_layer=2, n_head=3, n_embd=24, dropout=0.0)


def test_a_training_step_has_as_many_operations_as_torch_counts() -> None:
    length, batch_size = 12, 2
    model = GPT2Model(SMALL)
    tokens = torch.randint(SMALL.vocab_size, (batch_size, length))
    with FlopCounterMode(display=False) as counter, explicit_attention():
        logits = model(tokens)
        F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    cost = operations(SMALL, length)
    # torch counts the masked half of attention too: T keys for each query, not (T + 1) / 2
    masked = 3 * cost.attention * (2 * length / (length + 1) - 1)
    assert counter.get_total_flops() == (cost.training + masked) * batch_size * length


def test_operations_grow_with_the_context_only_by_attention() -> None:
    short, long = operations(SMALL, 3), operations(SMALL, 7)
    assert (short.blocks, short.head) == (long.blocks, long.head)
    assert long.attention == 2 * short.attention  # 4 keys on average instead of 2


def test_matmul_weights_are_the_matrices_but_for_the_positions() -> None:
    model = GPT2Model(SMALL)
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    assert matmul_weights(SMALL) == matrices - model.position_embedding.weight.numel()


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_are_those_of_the_model(bias: bool) -> None:
    config = GPT2Config(vocab_size=50, context_length=9, n_layer=2, n_head=2, n_embd=8, bias=bias)
    assert parameters(config) == GPT2Model(config).n_parameters()


def test_gpt2_has_124_million_parameters_and_costs_three_quarters_of_a_gflop() -> None:
    assert parameters(PRESETS["gpt2"]) == 124_439_808
    assert operations(PRESETS["gpt2"], 256).training == pytest.approx(0.755e9, rel=0.01)
