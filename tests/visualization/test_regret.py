"""Regret: it adds up to what the model pays above the floor, as training measures it."""

import math

import numpy as np
import pytest
import torch
from oracles.world_stories import sample, vocabulary

from cfg_gpt2 import GPT2Config
from data.tiny_world.stories import LANGUAGES, floor_bits_per_byte
from gpt2 import GPT2Model
from load_data import Split, evaluation_batches
from loss import bits_per_byte, next_token_loss
from visualization.ideal import IdealReader
from visualization.regret import Layout, ideal_bits, lay_out, regret_by_kind, token_bits

N = 20


@pytest.fixture(scope="module")
def layout() -> Layout:
    tokenizer = vocabulary("tiny-world", "1200")
    reader = IdealReader(tokenizer, LANGUAGES["tiny-world"])
    return lay_out(sample("tiny-world", N), tokenizer, reader)


@pytest.fixture(scope="module")
def ideal(layout: Layout) -> np.ndarray:
    tokenizer = vocabulary("tiny-world", "1200")
    return ideal_bits(layout, IdealReader(tokenizer, LANGUAGES["tiny-world"]))


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    torch.manual_seed(1)
    size = vocabulary("tiny-world", "1200").vocab_size
    config = GPT2Config(
        vocab_size=size, context_length=200, n_layer=2, n_head=2, n_embd=16, dropout=0.0
    )
    return GPT2Model(config).eval()


def test_the_regrets_add_up_to_what_training_measures_above_the_floor(
    layout: Layout, ideal: np.ndarray, model: GPT2Model
) -> None:
    end = vocabulary("tiny-world", "1200").end_of_text
    rows = regret_by_kind(layout, ideal, token_bits(model, layout, end))
    split, nats = Split(layout.stream, layout.n_bytes), 0.0
    with torch.inference_mode():
        for tokens, targets in evaluation_batches(split, 200, 4, end):
            nats += float(next_token_loss(model(tokens), targets)[0])
    above = bits_per_byte(nats, layout.n_bytes) - floor_bits_per_byte(sample("tiny-world", N))
    regret = sum(row.regret for row in rows) / layout.n_bytes
    assert regret == pytest.approx(above, rel=1e-6)
    assert sum(row.n for row in rows) == N + sum(len(s.events) for s in sample("tiny-world", N))


def test_the_ideal_reader_itself_has_no_regret_and_knows_every_certain_word(
    layout: Layout, ideal: np.ndarray
) -> None:
    rows = regret_by_kind(layout, ideal, ideal)
    assert all(row.regret == 0 and row.unknown == 0 for row in rows)
    certain = sum(row.certain for row in rows)
    n_words = sum(len(story.text.split(" ")) for story in sample("tiny-world", N)) + N
    assert len(layout.words) == n_words
    assert 0.65 < certain / n_words < 0.75  # 70% of the words, and the end of each story


def test_a_word_that_gets_less_than_half_is_not_known(layout: Layout, ideal: np.ndarray) -> None:
    first, stop = next(
        (first, stop)
        for first, stop in layout.words
        if layout.kinds[first] == "evening" and not ideal[first:stop].any()
    )
    paid = ideal.copy()
    paid[first] += 0.9
    assert sum(row.unknown for row in regret_by_kind(layout, ideal, paid)) == 0
    paid[stop - 1] += 0.2
    rows = {row.kind: row for row in regret_by_kind(layout, ideal, paid)}
    assert sum(row.unknown for row in rows.values()) == rows["evening"].unknown == 1
    assert rows["evening"].regret == pytest.approx(1.1)
    assert next(iter(rows)) == "evening"


def test_a_model_that_knows_nothing_pays_the_size_of_its_vocabulary(
    layout: Layout, ideal: np.ndarray, model: GPT2Model
) -> None:
    tokenizer = vocabulary("tiny-world", "1200")
    with torch.no_grad():
        flat = GPT2Model(model.config)
        flat.token_embedding.weight.zero_()
    bits = token_bits(flat, layout, tokenizer.end_of_text)
    assert np.allclose(bits[1:], math.log2(tokenizer.vocab_size), atol=1e-5)
    assert bits[0] == 0
