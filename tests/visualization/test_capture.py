"""Capture reads without changing anything, and leaves nothing behind."""

import math

import numpy as np
import pytest
import torch
from oracles.hugging_face import hugging_face_pair
from oracles.random_model import SIZES, random_model
from torch import Tensor

from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from visualization.capture import PLACES, Hook, Trace, block_of, capture, hooked
from visualization.edits import (
    add_to_residual,
    cut_edge,
    replace_head,
    replace_neuron,
    replace_residual,
)

T, H, D = 24, 4, 8


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    return random_model()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(61, (2, T), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def trace(model: GPT2Model, tokens: Tensor) -> Trace:
    return capture(model, tokens)


@torch.no_grad()
def test_reading_changes_no_bit_of_the_logits(
    model: GPT2Model, tokens: Tensor, trace: Trace
) -> None:
    with explicit_attention():
        assert torch.equal(model(tokens), trace.logits)


@torch.no_grad()
def test_the_written_out_pass_is_the_fused_one(
    model: GPT2Model, tokens: Tensor, trace: Trace
) -> None:
    torch.testing.assert_close(model(tokens), trace.logits, atol=1e-4, rtol=0)


def test_the_weights_are_those_of_queries_and_keys_in_float64(trace: Trace) -> None:
    above = np.triu(np.ones((T, T), dtype=bool), 1)
    for layer, weights in enumerate(trace.weights):
        q, k, _ = (x.double().numpy() for x in trace.q_k_v(layer, H))
        scores = np.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(D)
        scores[..., above] = -np.inf
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(weights.numpy(), shares, atol=1e-6)
        np.testing.assert_allclose(weights.sum(dim=-1).numpy(), 1, atol=1e-6)
        assert (weights.numpy()[..., above] == 0).all()
        assert weights.max() > 0.5  # else all of this would hold for a model that looks nowhere


def test_transformers_sees_the_same_weights_and_the_same_residual_stream(tokens: Tensor) -> None:
    ours, theirs = hugging_face_pair(SIZES)
    theirs.set_attn_implementation("eager")
    with torch.no_grad():
        seen = theirs(tokens, output_attentions=True, output_hidden_states=True)
    trace = capture(ours, tokens)
    for own, other in zip(trace.weights, seen.attentions, strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=0)
    *streams, last = seen.hidden_states  # the last one has gone through the final norm
    for own, other in zip(trace.residual, [*streams, None], strict=True):
        expected = last if other is None else other
        with torch.no_grad():
            own = ours.final_norm(own) if other is None else own
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=0)


def test_a_compiled_model_would_pass_the_hooks_by(tokens: Tensor) -> None:
    compiled = random_model()
    block_of(compiled, 1).compile()
    with pytest.raises(AssertionError, match="not compiled"):
        capture(compiled, tokens)


def test_heads_and_neurons_add_up_to_what_their_layers_add(model: GPT2Model, trace: Trace) -> None:
    for layer in range(SIZES.n_layer):
        block = block_of(model, layer)
        mix, narrow = block.attention.out_proj, block.feedforward.narrow_proj
        added = mix.bias.detach() + sum(
            trace.heads[layer][..., h * D : (h + 1) * D]
            @ mix.weight.detach()[:, h * D : (h + 1) * D].T
            for h in range(H)
        )
        expected = trace.middle[layer] - trace.residual[layer]
        torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-5)
        each = trace.neurons[layer][..., None, :] * narrow.weight.detach()  # (B, T, C, F)
        expected = trace.residual[layer + 1] - trace.middle[layer]
        torch.testing.assert_close(each.sum(-1) + narrow.bias, expected, atol=1e-4, rtol=1e-5)


def n_hooks(model: GPT2Model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_gone_after_an_error_too(model: GPT2Model, tokens: Tensor) -> None:
    def fail(x: Tensor) -> None:
        raise RuntimeError("in the middle")

    failing = [Hook("weights", 0, fail), Hook("neurons", 1, fail)]
    with pytest.raises(RuntimeError, match="in the middle"), hooked(model, failing):
        assert n_hooks(model) == 2
        with explicit_attention():
            model(tokens)
    assert n_hooks(model) == 0
    missing = [Hook("weights", 0, fail), Hook("weights", 99, fail)]
    with pytest.raises(IndexError), hooked(model, missing):
        pass
    assert n_hooks(model) == 0


def test_a_place_that_was_left_out_is_empty(model: GPT2Model, tokens: Tensor) -> None:
    trace = capture(model, tokens, ["weights"])
    assert [len(getattr(trace, place)) for place in PLACES] == [0, 0, 3, 0, 0, 0]


@torch.no_grad()
def run(model: GPT2Model, tokens: Tensor, *hooks: Hook) -> Tensor:
    with explicit_attention(), hooked(model, hooks):
        return model(tokens)


def test_replacing_a_part_by_itself_changes_no_bit(
    model: GPT2Model, tokens: Tensor, trace: Trace
) -> None:
    heads = trace.heads[1].unflatten(-1, (H, D))
    for hooks in (
        [],
        [replace_head(1, 2, heads[:, :, 2], H)],
        [replace_residual(2, trace.residual[2])],
        [replace_residual(3, trace.residual[3], [4, 7])],
        [replace_neuron(0, 5, trace.neurons[0][..., 5])],
        [add_to_residual(1, torch.zeros(32))],
    ):
        assert torch.equal(run(model, tokens, *hooks), trace.logits)


def test_the_other_run_s_embeddings_give_the_other_run_s_logits(
    model: GPT2Model, tokens: Tensor, trace: Trace
) -> None:
    other = tokens.flip(0)
    changed = run(model, other, replace_residual(0, trace.residual[0]))
    assert torch.equal(changed, trace.logits)
    last = run(model, other, replace_residual(3, trace.residual[3], [T - 1]))
    assert torch.equal(last[:, -1], trace.logits[:, -1])
    assert torch.equal(last[:, :-1], trace.logits.flip(0)[:, :-1])


def test_an_edit_changes_its_own_position_and_the_later_ones_only(
    model: GPT2Model, tokens: Tensor, trace: Trace
) -> None:
    looked_at = int(trace.weights[1][0, 3, 9].argmax())
    for hooks in (
        [cut_edge(1, 3, query=9, key=looked_at)],
        [add_to_residual(1, torch.eye(32)[0], slice(9, 10))],  # the norms would remove ones(32)
    ):
        changed = run(model, tokens, *hooks)
        assert torch.equal(changed[:, :9], trace.logits[:, :9])
        assert not torch.allclose(changed[0, 9], trace.logits[0, 9], atol=1e-2)


def test_a_head_is_taken_out_where_it_stands(model: GPT2Model, tokens: Tensor) -> None:
    cut = run(model, tokens, replace_head(0, 1, torch.zeros(D), H))
    twin = GPT2Model(SIZES).eval()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        block_of(twin, 0).attention.out_proj.weight[:, D : 2 * D] = 0
    torch.testing.assert_close(cut, run(twin, tokens), atol=1e-5, rtol=1e-5)
