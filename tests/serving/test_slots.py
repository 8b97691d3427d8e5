"""Rows that join and leave a batch in any order have the logits that each has alone."""

from dataclasses import dataclass, field

import pytest
import torch
from oracles.random_model import random_model

from cfg_gpt2 import GPT2Config
from decoding.batch import window_start
from gpt2 import GPT2Model
from serving.slots import Slots

CONTEXT = 24
SIZES = GPT2Config(
    vocab_size=37, context_length=CONTEXT, n_layer=2, n_head=2, n_embd=16, dropout=0.1
)
BOUND = 1e-3  # the same sums in another order, for logits of size 10


@dataclass(eq=False)
class Row:
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    return random_model(SIZES, std=0.16, seed=4)


def logits_alone(model: GPT2Model, row: Row) -> torch.Tensor:
    text = row.prompt + row.tokens
    return model(torch.tensor([text[window_start(len(text), CONTEXT) :]]))[0, -1]


def numbers(seed: int, *limits: int) -> list[int]:
    """Returns a random number from 0 to below each limit."""
    generator = torch.Generator().manual_seed(seed)
    return [int(torch.randint(limit, (1,), generator=generator)) for limit in limits]


@torch.inference_mode()
def test_logits_are_those_of_each_row_alone_whatever_joins_leaves_and_is_read(
    model: GPT2Model,
) -> None:
    slots: Slots[Row] = Slots(model, n_slots=5)
    stem, n_compared = numbers(99, *[37] * 20), 0  # prompts that begin alike
    for turn in range(110):
        wish, length, of_stem, budget, leaver = numbers(turn, 3, 12, 20, 16, 5)
        if wish and not slots.is_full:
            own = numbers(1000 + turn, *[37] * (1 + length))
            slots.join(Row(prompt=[*stem[:of_stem], *own]))
        if wish == 2 and leaver < len(slots.rows) and turn % 3 == 0:
            slots.leave(slots.rows[leaver])
        slots.read(1 + budget)
        if not slots.n_ready:
            continue
        rows = slots.rows[: slots.n_ready]
        for row, logits in zip(rows, slots.step(), strict=True):
            torch.testing.assert_close(logits, logits_alone(model, row), rtol=0, atol=BOUND)
            row.tokens.append(int(logits.argmax() + turn) % 37)
            n_compared += 1
        for row in rows:
            if len(row.tokens) == 20:
                slots.leave(row)
        slots.move_windows()
    assert n_compared > 150


@torch.inference_mode()
def test_a_short_prompt_does_not_wait_for_a_long_one(model: GPT2Model) -> None:
    slots: Slots[Row] = Slots(model, n_slots=2)
    long, short = Row(prompt=[1] * 24), Row(prompt=[2] * 5)
    slots.join(long)
    slots.join(short)
    slots.read(10)
    slots.read(10)
    assert slots.rows == [short, long]
    assert slots.n_ready == 1


def test_short_prompts_are_read_in_one_pass(model: GPT2Model) -> None:
    slots: Slots[Row] = Slots(model, n_slots=3)
    for length in (5, 3, 4):
        slots.join(Row(prompt=[length] * length))
    with torch.inference_mode():
        slots.read(12)
    assert slots.n_ready == 3


def test_more_slots_than_memory_is_a_sentence(model: GPT2Model) -> None:
    with pytest.raises(ValueError, match="--slots 1099511627776"):
        Slots(model, n_slots=2**40)
