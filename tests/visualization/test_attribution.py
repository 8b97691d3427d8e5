"""Direct attribution: the parts add up to the logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles.random_model import SIZES, inspection_of, random_model

from gpt2 import GPT2Model
from visualization.attribution import attribute, attribution_of, part_names
from visualization.capture import block_of, capture, hooked
from visualization.edits import replace_head


@pytest.mark.parametrize("bias", [True, False])
def test_the_parts_add_up_to_the_logits_of_all_tokens_at_all_positions(bias: bool) -> None:
    model = random_model(replace(SIZES, bias=bias))
    generator = torch.Generator().manual_seed(4)
    trace = capture(model, torch.randint(61, (1, 24), generator=generator))
    every = torch.arange(61).expand(24, -1)
    values = attribute(model, trace, every)
    assert values.dtype == torch.float64 and values.shape == (24, 61, len(part_names(SIZES)))
    np.testing.assert_allclose(values.sum(dim=-1), trace.logits[0].double(), atol=1e-4)
    biases = [i for i, name in enumerate(part_names(SIZES)) if name.endswith("bias")]
    assert bool((values[..., biases] != 0).any()) == bias


@torch.no_grad()
def test_a_head_of_the_last_layer_has_the_share_that_it_has_with_a_frozen_norm() -> None:
    model = random_model()
    tokens = torch.arange(24)[None]
    trace = capture(model, tokens)
    names = part_names(SIZES)
    head = attribute(model, trace, torch.full((24, 1), 7))[:, 0, names.index("2.1")]
    mix = block_of(model, 2).attention.out_proj.weight[:, 8:16]  # (C, D)
    part = (trace.heads[2][0, :, 8:16] @ mix.T).double()  # (T, C)
    x = trace.residual[3][0].double()
    without = (
        model.final_norm.weight.double()
        * ((x - part) - (x - part).mean(-1, keepdim=True))
        / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    )
    without = without + model.final_norm.bias.double()
    expected = trace.logits[0, :, 7].double() - without @ model.lm_head.weight[7].double()
    np.testing.assert_allclose(head, expected, atol=1e-5)


@torch.no_grad()
def test_a_head_that_is_taken_out_has_no_share() -> None:
    model = random_model()
    tokens = torch.arange(24)[None]
    with hooked(model, [replace_head(1, 0, torch.zeros(8), 4)]):
        trace = capture(model, tokens)
    names = part_names(SIZES)
    values = attribute(model, trace, torch.full((24, 1), 7))
    assert not trace.heads[1][..., :8].any(), "hooks see what the hooks before them made"
    assert not values[..., names.index("1.0")].any() and values[..., names.index("1.1")].all()


def test_the_candidates_are_the_true_token_and_the_likeliest_others() -> None:
    model: GPT2Model = random_model()
    tokens = torch.randint(1, 61, (24,), generator=torch.Generator().manual_seed(5)).tolist()
    inspection = inspection_of(model, tokens)
    view = attribution_of(inspection)
    for t, row in enumerate(view.candidates):
        likeliest = inspection.trace.logits[0, t].argsort(descending=True).tolist()
        if t + 1 < len(tokens):
            assert row[0] == tokens[t + 1]
            likeliest = [id for id in likeliest if id != tokens[t + 1]]
            row = row[1:]
        assert row == likeliest[: len(row)]
        sums = np.array(view.values[t]).sum(axis=-1)
        logits = inspection.trace.logits[0, t, view.candidates[t]]
        np.testing.assert_allclose(sums, logits, atol=1e-3)
