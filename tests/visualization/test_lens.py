"""Lens, surprise and packed attention, each against a second computation."""

import base64
import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles.random_model import SIZES, inspection_of, random_model
from torch.nn import functional as F

from decoding.settings import SamplingConfig
from gpt2 import GPT2Model
from visualization import attention
from visualization.attention import attention_of
from visualization.capture import block_of
from visualization.inspection import Inspection
from visualization.lens import lens_logits, lens_of, stages
from visualization.surprise import alternatives_of, surprise_of

T = SIZES.context_length
TOKENS = torch.randint(1, 61, (T,), generator=torch.Generator().manual_seed(3)).tolist()


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    return random_model()


@pytest.fixture(scope="module")
def inspection(model: GPT2Model) -> Inspection:
    return inspection_of(model, TOKENS)


def test_the_last_depth_is_the_model_s_own_output_bit_for_bit(
    model: GPT2Model, inspection: Inspection
) -> None:
    depths = [name for name, _ in stages(inspection.trace)]
    assert depths[:3] == ["embedding", "0.attention", "0.feedforward"] and len(depths) == 7
    *earlier, last = (lens_logits(model, x) for _, x in stages(inspection.trace))
    assert torch.equal(last, inspection.trace.logits)
    assert not any(torch.allclose(logits, last, atol=0.1) for logits in earlier)


def test_a_depth_is_what_a_model_without_the_later_layers_says(
    model: GPT2Model, inspection: Inspection
) -> None:
    short = random_model()
    short.blocks = short.blocks[:2]
    with torch.no_grad():
        expected = short(torch.tensor([TOKENS]))
    x = dict(stages(inspection.trace))["1.feedforward"]
    torch.testing.assert_close(lens_logits(model, x), expected, atol=1e-4, rtol=1e-5)


def test_the_lens_view_is_its_formula(inspection: Inspection) -> None:
    lens = lens_of(inspection)
    assert lens.kl_to_end[-1] == [0.0] * T and max(lens.settled) <= 6
    end = inspection.trace.logits[0].double().log_softmax(-1)
    for depth, (_, x) in enumerate(stages(inspection.trace)):
        here = lens_logits(inspection.model, x)[0].double().log_softmax(-1)
        kl = F.kl_div(here, end, reduction="none", log_target=True).sum(-1) / math.log(2)
        np.testing.assert_allclose(lens.kl_to_end[depth], kl, atol=1e-3)
        for t, (true, cell) in enumerate(zip([*TOKENS[1:], None], lens.top[depth], strict=True)):
            assert cell[0][0] == int(here[t].argmax())
            assert lens.p_true[depth][t] == (
                None if true is None else pytest.approx(float(here[t, true].exp()), abs=1e-6)
            )
    for t, settled in enumerate(lens.settled):
        answers = [lens.top[depth][t][0][0] for depth in range(7)]
        assert len(set(answers[settled:])) == 1
        assert settled == 0 or answers[settled - 1] != answers[settled]


def test_the_bits_are_torch_s_own_cross_entropy(inspection: Inspection) -> None:
    view = surprise_of(inspection)
    expected = F.cross_entropy(
        inspection.trace.logits[0, :-1].double(), torch.tensor(TOKENS[1:]), reduction="none"
    ) / math.log(2)
    assert view.bits[0] is None
    np.testing.assert_allclose(view.bits[1:], expected, atol=1e-5)
    assert view.total_bits == pytest.approx(float(expected.sum()), abs=1e-9)
    letters = "".join(inspection.text_of(id).text for id in TOKENS[1:])
    assert view.bytes == len(letters.encode())
    assert view.worst[0] == 1 + int(expected.argmax())


def test_a_single_token_has_no_bits(model: GPT2Model) -> None:
    view = surprise_of(inspection_of(model, [0]))
    assert view.bits == [None] and view.worst == [] and view.bits_per_byte is None


def test_alternatives_are_the_likeliest_next_tokens(inspection: Inspection) -> None:
    p = inspection.trace.logits[0].double().softmax(-1)
    for t, row in enumerate(alternatives_of(inspection).top):
        order = p[t].argsort(descending=True)[:10]
        assert [id for id, _ in row] == order.tolist()
        np.testing.assert_allclose([x for _, x in row], p[t, order], atol=1e-6)


def inflate(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text), wbits=-15)


def test_alternatives_are_drawn_as_generate_draws_them(inspection: Inspection) -> None:
    config = SamplingConfig(temperature=0.5, top_p=0.6)
    view = alternatives_of(replace(inspection, sampling=config))
    assert (view.temperature, view.top_p) == (0.5, 0.6)
    p = inspection.trace.logits[0].double().softmax(-1).square()  # temperature 1/2
    p = (p / p.sum(dim=-1, keepdim=True)).numpy()
    for t, row in enumerate(view.drawn):
        order = np.argsort(-p[t])
        kept = order[: 1 + int((p[t, order].cumsum() < 0.6).sum())]
        expected = [p[t, id] / p[t, kept].sum() if id in kept else 0 for id, _ in view.top[t]]
        np.testing.assert_allclose(row, expected, atol=1e-5)
    greedy = alternatives_of(replace(inspection, sampling=SamplingConfig(temperature=0)))
    assert all(row[0] == 1 and not any(row[1:]) for row in greedy.drawn)


@pytest.mark.parametrize("most, kind, error", [(10**6, "<f4", 0.0), (10, np.uint8, 0.5 / 255)])
def test_packed_attention_is_the_attention_exactly_or_to_half_a_step(
    inspection: Inspection, monkeypatch: pytest.MonkeyPatch, most: int, kind: str, error: float
) -> None:
    monkeypatch.setattr(attention, "MOST_EXACT", most)
    chosen = replace(inspection, layers=(0, 2), heads=(1, 3), limit_bytes=10**6)
    view = attention_of(chosen)
    assert view.shape == (2, 2, T, T) and view.weight and view.sparse is None
    assert view.encoding.startswith("f32" if error == 0 else "u8")
    packed = np.frombuffer(inflate(view.weight), dtype=kind)
    packed = packed if error == 0 else packed / 255
    rows = np.split(packed, np.cumsum([t + 1 for t in range(T)] * 4)[:-1])
    for number, (layer, head) in enumerate([(0, 1), (0, 3), (2, 1), (2, 3)]):
        weights = inspection.trace.weights[layer][0, head].numpy()
        for t in range(T):
            np.testing.assert_allclose(
                rows[number * T + t], weights[t, : t + 1], atol=error, rtol=0
            )


def test_what_does_not_fit_leaves_the_largest_weights_of_each_row(inspection: Inspection) -> None:
    view = attention_of(replace(inspection, limit_bytes=3000))
    assert view.weight is None and view.sparse and view.sparse.k in (1, 2, 4, 8, 16)
    k = view.sparse.k
    index = np.frombuffer(inflate(view.sparse.index), dtype="<u2")
    weight = np.frombuffer(inflate(view.sparse.weight), dtype=np.uint8) / 255
    kept, start = 0.0, 0
    for layer in range(3):
        for head in range(4):
            for t in range(T):
                row = inspection.trace.weights[layer][0, head, t].numpy()
                end = start + min(t + 1, k)
                own = index[start:end]
                assert sorted(own) == list(own) and own.max() <= t
                np.testing.assert_allclose(weight[start:end], row[own], atol=0.5 / 255)
                assert row[own].min() >= np.sort(row)[::-1][len(own) - 1] - 1e-9
                kept += row[own].sum()
                start = end
    assert start == len(index) == len(weight)
    assert view.kept_share == pytest.approx(kept / (3 * 4 * T), abs=1e-4) and kept < 288


def test_value_norms_are_those_of_what_a_position_hands_over(inspection: Inspection) -> None:
    view = attention_of(inspection)
    for layer in range(3):
        _, _, v = inspection.trace.q_k_v(layer, 4)
        mix = block_of(inspection.model, layer).attention.out_proj.weight.detach()
        for head in range(4):
            handed = v[0, head] @ mix[:, head * 8 : (head + 1) * 8].T  # (T, C)
            expected = handed.norm(dim=-1)
            np.testing.assert_allclose(view.value_norms[layer][head], expected, atol=1e-3)
