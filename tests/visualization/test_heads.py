"""The table of heads finds heads that were planted, and none where there are none."""

import math
import re

import numpy as np
import pytest
import torch
from oracles.random_model import inspection_of, random_model

from cfg_gpt2 import GPT2Config
from gpt2 import GPT2Model
from visualization import heads
from visualization.capture import block_of
from visualization.heads import copying_scores, heads_of, score_heads, sum_up

N_TOKENS, N_POSITIONS, HEAD_DIM = 40, 33, 60
SHARP = 60.0  # score of a match, before the norms' scale


def planted() -> GPT2Model:
    """A model of two layers of two heads whose first ones were set by hand; the others are zero.

    The channels hold the token, the position, the token before, and room. Head 0.0 looks from
    position t to t - 1 and writes that token into "the token before". Head 1.0 looks from a token
    to the position whose "token before" it is: an induction head.
    """
    sizes = GPT2Config(
        vocab_size=N_TOKENS, context_length=N_POSITIONS, n_layer=2, n_head=2,
        n_embd=2 * HEAD_DIM, dropout=0.0,
    )  # fmt: skip
    model = GPT2Model(sizes).eval()
    token, position, before = 0, N_TOKENS, N_TOKENS + N_POSITIONS
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm.weight" in name else 0.0)
        for id in range(N_TOKENS):
            model.token_embedding.weight[id, token + id] = 1
        for t in range(N_POSITIONS):
            model.position_embedding.weight[t, position + t] = 1
        first, second = block_of(model, 0).attention, block_of(model, 1).attention
        query, key, value = 0, 2 * HEAD_DIM, 4 * HEAD_DIM  # the rows of head 0
        for t in range(1, N_POSITIONS):
            first.qkv_proj.weight[query + t - 1, position + t] = SHARP
            first.qkv_proj.weight[key + t - 1, position + t - 1] = 1
        for id in range(N_TOKENS):
            first.qkv_proj.weight[value + id, token + id] = 1
            first.out_proj.weight[before + id, id] = 1
            second.qkv_proj.weight[query + id, token + id] = SHARP
            second.qkv_proj.weight[key + id, before + id] = 1
    return model


def test_planted_heads_are_found_and_no_other() -> None:
    view = score_heads(planted(), first_token=0, n_sequences=8)
    assert view
    rows = {(row.layer, row.head): row for row in view.rows}
    chance = view.chance
    assert rows[0, 0].previous >= 0.99 and rows[1, 0].induction >= 0.99
    for place, row in rows.items():
        assert place == (0, 0) or row.previous <= 0.1 + chance.previous
        assert place == (1, 0) or row.induction <= 0.1 + chance.induction
        assert row.duplicate <= 0.1 + chance.duplicate
    said = sum_up(inspection_of(planted(), [1]), view)
    assert re.findall(r"(\w+) (\d\.\d) \d+% \(chance", said) == [
        ("previous", "0.0"),
        ("induction", "1.0"),
    ]
    assert "no head for duplicate: none is 10 points above chance" in said
    assert rows[0, 1].entropy == pytest.approx(chance.entropy, abs=1e-4)


def test_a_model_that_looks_everywhere_alike_has_the_chance_level_of_each_score() -> None:
    model = random_model(
        GPT2Config(vocab_size=61, context_length=24, n_layer=1, n_head=2, n_embd=8)
    )
    with torch.no_grad():
        block_of(model, 0).attention.qkv_proj.weight[:16] = 0
        block_of(model, 0).attention.qkv_proj.bias[:16] = 0
    view = score_heads(model, first_token=0, n_sequences=4)
    assert view
    n = 11
    queries = np.arange(1, 2 * n + 1)
    expected = {
        "previous": np.mean(1 / (queries[1:] + 1)),
        "duplicate": np.mean(1 / (np.arange(n + 1, 2 * n + 1) + 1)),
        "induction": np.mean(1 / (np.arange(n + 1, 2 * n + 1) + 1)),
        "sink": np.mean(1 / (queries + 1)),
        "entropy": np.mean(np.log2(queries + 1)),
    }
    for row in (view.chance, *view.rows):
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value, abs=1e-4), name


def test_the_copying_score_is_that_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "VOCABULARY_CHUNK", 16)  # of 61
    model = random_model()
    embedding = model.token_embedding.weight.detach().double().numpy()  # (V, C)
    scaled = embedding * model.final_norm.weight.detach().double().numpy()
    written = scaled - scaled.mean(axis=1, keepdims=True)  # the norm takes the mean of a part
    written -= written.mean(axis=0)  # what all logits share decides nothing
    for layer, scores in enumerate(copying_scores(model)):
        attention = block_of(model, layer).attention
        gamma = block_of(model, layer).attention_norm.weight.detach().double().numpy()
        read = (embedding - embedding.mean(axis=1, keepdims=True)) * gamma
        w_v = attention.qkv_proj.weight.detach().double().numpy()[64:]  # (C, C)
        w_o = attention.out_proj.weight.detach().double().numpy()
        for head, score in enumerate(scores):
            own = slice(8 * head, 8 * head + 8)
            whole = written @ w_o[:, own] @ w_v[own] @ read.T  # (V, V)
            eigenvalues = np.linalg.eigvals(whole)
            expected = eigenvalues.sum().real / np.abs(eigenvalues).sum()
            assert score == pytest.approx(expected, abs=1e-3)
            assert not math.isclose(score, 0, abs_tol=1e-9)


def test_a_head_that_writes_what_it_reads_copies() -> None:
    model = random_model()
    attention = block_of(model, 0).attention
    with torch.no_grad():
        model.final_norm.weight.fill_(1)
        block_of(model, 0).attention_norm.weight.fill_(1)
        for head, sign in ((0, 1.0), (1, -1.0)):
            own = slice(8 * head, 8 * head + 8)
            values = slice(64 + 8 * head, 64 + 8 * head + 8)
            attention.out_proj.weight[:, own] = sign * attention.qkv_proj.weight[values].T
    scores = copying_scores(model)
    assert scores[0][:2] == [1.0, -1.0]


def test_a_context_without_room_for_a_repetition_has_no_table() -> None:
    model = random_model(GPT2Config(vocab_size=61, context_length=4, n_layer=1, n_head=1, n_embd=8))
    assert heads_of(inspection_of(model, [1, 2, 3])) is None
