"""Ablation and fact heads: exact where nothing is changed, and right on heads set by hand."""

import copy

import pytest
import torch
from oracles.world_stories import sample, small_model, vocabulary

from data.tiny_world.stories import LANGUAGES
from gpt2 import GPT2Model
from visualization.ablation import (
    ablated_bits,
    head_rises,
    mean_outputs,
    residuals,
    rise_by_kind,
    run_from,
)
from visualization.capture import block_of, capture, hooked
from visualization.edits import replace_head
from visualization.fact_heads import fact_scores
from visualization.facts import find_mentions, known_places
from visualization.ideal import IdealReader
from visualization.regret import Layout, lay_out, token_bits

WORLD, N = "tiny-world", 4
TOKENIZER = vocabulary(WORLD, "1200")
READER = IdealReader(TOKENIZER, LANGUAGES[WORLD])
END = TOKENIZER.end_of_text


@pytest.fixture(scope="module")
def layout() -> Layout:
    return lay_out(sample(WORLD, N), TOKENIZER, READER)


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    model = small_model(TOKENIZER)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # so that heads matter
    return model


def test_a_run_from_a_layer_and_a_head_replaced_by_itself_change_nothing(
    model: GPT2Model, layout: Layout
) -> None:
    tokens = torch.from_numpy(layout.stream[:60])[None]
    with torch.no_grad():
        logits = model(tokens)
        before = residuals(model, tokens)
        assert len(before) == 3
        for layer, x in enumerate(before):
            assert torch.equal(run_from(model, layer, x), logits)
        seen = capture(model, tokens, ["heads"])
        for layer in range(2):
            z = seen.heads[layer].unflatten(-1, (2, -1))
            with hooked(model, [replace_head(layer, 1, z[:, :, 1], 2)]):
                again = run_from(model, layer, before[layer])
            assert torch.allclose(again, logits, atol=1e-4)  # the fused kernel rounds otherwise


def test_an_ablated_head_costs_what_a_model_without_it_pays(
    model: GPT2Model, layout: Layout
) -> None:
    means = mean_outputs(model, layout, END)
    ablated = ablated_bits(model, layout, END, means)
    without = copy.deepcopy(model)
    attention = block_of(without, 1).attention
    with torch.no_grad():  # head 0 of layer 1 gives nothing; its mean comes through the bias
        attention.out_proj.bias.add_(attention.out_proj.weight[:, :8] @ means[1, 0])
        attention.out_proj.weight[:, :8] = 0
    paid = token_bits(without, layout, END)
    assert abs(ablated[1, 0] - paid).max() < 1e-4
    assert abs(ablated[1, 1] - paid).max() > 0.01


def test_a_head_that_says_always_the_same_is_for_nothing(model: GPT2Model, layout: Layout) -> None:
    dull = copy.deepcopy(model)
    projection = block_of(dull, 0).attention.qkv_proj
    with torch.no_grad():
        projection.weight[2 * 16 + 8 :] = 0  # the values of head 1
        projection.bias[2 * 16 + 8 :] = 0
    rises = head_rises(dull, layout, END)
    assert [(row.layer, row.head) for row in rises] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert set(rises[1].rise) == set(layout.n_events)
    assert all(abs(bits) < 1e-5 for bits in rises[1].rise.values())
    assert max(abs(bits) for bits in rises[0].rise.values()) > 0.01
    paid = token_bits(dull, layout, END)
    total = sum(rises[0].rise[kind] * n for kind, n in layout.n_events.items())
    means = mean_outputs(dull, layout, END)
    ablated = ablated_bits(dull, layout, END, means)
    assert total == pytest.approx((ablated[0, 0] - paid).sum())
    assert rise_by_kind(layout, paid, ablated) == rises


def test_uniform_attention_looks_at_facts_by_chance(model: GPT2Model, layout: Layout) -> None:
    blind = copy.deepcopy(model)
    with torch.no_grad():
        for layer in range(2):
            block_of(blind, layer).attention.qkv_proj.weight[: 2 * 16] = 0  # queries and keys
            block_of(blind, layer).attention.qkv_proj.bias[: 2 * 16] = 0
    found = fact_scores(blind, layout, READER, END)
    assert found.n["all"] == sum(n for kind, n in found.n.items() if kind != "all") > N
    for kind, chance in found.chance.items():
        assert torch.allclose(found.scores[kind], torch.tensor(chance), atol=1e-6)


def test_the_fact_score_is_the_attention_to_what_stated_the_place(model: GPT2Model) -> None:
    layout = lay_out(sample(WORLD, 1), TOKENIZER, READER)
    weights = capture(model, torch.from_numpy(layout.stream)[None, :-1], ["weights"]).weights
    known = known_places(find_mentions(layout.told[0], READER))
    found = fact_scores(model, layout, READER, END)
    by_hand = [
        weights[1][0, 0, mention.first - 1, list(mention.sources)].sum() for mention in known
    ]
    assert found.n["all"] == len(known) > 0
    assert float(found.scores["all"][1, 0]) == pytest.approx(float(sum(by_hand)) / len(known))
