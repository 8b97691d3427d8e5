"""Probes and steering: planted facts are found, shuffled ones are not, and moments are right."""

from itertools import islice

import pytest
import torch
from oracles.world_stories import sample, vocabulary
from torch import Tensor

from cfg_gpt2 import GPT2Config
from data.tiny_world.stories import LANGUAGES, stories
from data.tiny_world.world import PLACES
from gpt2 import GPT2Model
from visualization.capture import block_of
from visualization.facts import FACTS, PLACE_OF
from visualization.ideal import IdealReader
from visualization.probe_table import measure_probes
from visualization.probes import (
    VALUES,
    Probe,
    accuracy,
    fit,
    majority,
    moments_of,
    shuffled,
    split_by_fact,
    streams,
)
from visualization.steering import cases_of, directions, steer

WORLD = "tiny-world"
TOKENIZER = vocabulary(WORLD, "1200")
READER = IdealReader(TOKENIZER, LANGUAGES[WORLD])


def new_model(n_embd: int = 16, n_layer: int = 2) -> GPT2Model:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=TOKENIZER.vocab_size,
        context_length=200,
        n_layer=n_layer,
        n_head=2,
        n_embd=n_embd,
        dropout=0.0,
    )
    return GPT2Model(config).eval()


def planted(n: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns a stream in which every fact stands linearly, and the values of the facts."""
    sizes = [len(VALUES[fact]) for fact in FACTS]
    values = {
        fact: torch.randint(size, (n,), generator=generator)
        for fact, size in zip(FACTS, sizes, strict=True)
    }
    ones = torch.cat(
        [torch.eye(size)[values[fact]] for fact, size in zip(FACTS, sizes, strict=True)], dim=1
    )
    mixing = torch.linalg.qr(torch.randn(sum(sizes), sum(sizes), generator=torch.Generator()
                                         .manual_seed(5)))[0]  # fmt: skip
    return ones @ mixing + 0.05 * torch.randn(ones.shape, generator=generator), values


def test_planted_facts_are_read_and_shuffled_ones_are_not() -> None:
    generator = torch.Generator().manual_seed(0)
    x, values = planted(2000, generator)
    y, asked = planted(2000, generator)
    right = fit(x, values).guess(y)
    wrong = fit(x, shuffled(values)).guess(y)
    above: list[float] = []
    for fact in FACTS:
        assert (accuracy(right[fact], asked[fact]) or 0) >= 0.99
        frequent = accuracy(majority(values[fact], asked[fact]), asked[fact]) or 0
        above.append((accuracy(wrong[fact], asked[fact]) or 1) - frequent)
    assert sum(above) / len(above) <= 0.03  # one fact alone may be guessed by luck


def test_moments_have_the_truth_of_their_story() -> None:
    texts = sample(WORLD, 12)
    moments = moments_of(texts, TOKENIZER, READER, 200)
    assert len(moments.tokens) == 12
    assert len(moments) == len(moments.position) > 36
    for n in range(len(moments)):
        story = texts[int(moments.story[n])]
        read = TOKENIZER.decode(moments.tokens[int(moments.story[n])][1 : moments.position[n] + 1])
        assert story.text.startswith(read)
        assert read.endswith((".", "!"))  # an event ends here
        last = max(PLACES, key=lambda place: read.rfind(f" {place}"))
        if "to sail on the pond" not in read:  # a reason to want a boat
            assert PLACES[int(moments.named_last[n])] == last
        wisher = story.state.people[int(moments.values["wisher"][n])]
        assert wisher == story.state.wisher
    asked = moments_of(texts, TOKENIZER, READER, 200, "question")
    assert asked.story.tolist() == list(range(12))
    for n, story in enumerate(texts):
        where = story.state.where[story.state.people[0]]
        assert PLACES[int(asked.values[PLACE_OF[0]][n])] == where
        following = asked.tokens[n][int(asked.position[n]) + 1]
        assert f" {where}".startswith(TOKENIZER.decode([following]))
    short = moments_of(texts, TOKENIZER, READER, 118)
    assert 0 < len(short.tokens) < 12
    assert max(map(len, short.tokens)) <= 118


def test_streams_are_those_of_each_story_read_alone() -> None:
    model, moments = new_model(), moments_of(sample(WORLD, 5), TOKENIZER, READER, 200)
    found = streams(model, moments)
    assert len(found) == 3
    with torch.no_grad():
        for n in range(0, len(moments), 3):
            tokens = torch.tensor([moments.tokens[int(moments.story[n])]])
            alone = model.hidden_states(tokens)[0, moments.position[n]]
            assert torch.allclose(model.final_norm(found[2][n]), alone, atol=1e-5)


def test_the_table_has_all_controls() -> None:
    model = new_model()
    train = moments_of(islice(stories(LANGUAGES[WORLD], "train"), 30), TOKENIZER, READER, 200)
    test = moments_of(sample(WORLD, 20), TOKENIZER, READER, 200)
    steps: list[tuple[int, int]] = []
    table, probes = measure_probes(model, train, test, lambda *done: steps.append(done))
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert [row.fact for row in table.rows] == list(FACTS)
    assert len(probes) == 3
    assert (table.n_train, table.n_test) == (len(train), len(test))
    for row in table.rows:
        assert len(row.layers) == 3
        assert row.layers[row.best] == max(row.layers)
        assert (
            (row.named_last is not None)
            == (row.hard is not None)
            == (PLACES[0] in VALUES[row.fact])
        )
        assert (row.deceived is not None) == row.fact.startswith("belief")
    first = table.rows[0]
    assert first.hard is not None
    assert first.named_last == pytest.approx(1 - first.hard.n / table.n_test)


def test_steering_a_stream_that_becomes_the_answer_names_the_target() -> None:
    model = new_model(n_embd=64, n_layer=1)
    with torch.no_grad():  # the block adds nothing, so the stream is what the head reads
        block_of(model, 0).attention.out_proj.weight.zero_()
        block_of(model, 0).feedforward.narrow_proj.weight.zero_()
    cases = cases_of(sample(WORLD, 12), TOKENIZER, READER, 200)
    assert len(cases.last) == 12
    assert (cases.own != cases.target).all()
    lengths = cases.last.tolist()
    read = [
        TOKENIZER.decode(row[1 : last + 1])
        for row, last in zip(cases.tokens.tolist(), lengths, strict=True)
    ]
    texts = [story.text for story in sample(WORLD, 12)]
    assert all(text.startswith(part) for text, part in zip(texts, read, strict=True))
    assert all(part.endswith(" the") for part in read)
    columns = [torch.zeros(64, len(VALUES[fact])) for fact in FACTS]
    columns[FACTS.index(PLACE_OF[0])] = model.token_embedding.weight.detach()[cases.nouns].T
    probe = Probe(torch.zeros(64), torch.ones(64), torch.cat(columns, dim=1), torch.zeros(112))
    assert split_by_fact(probe.bias)[PLACE_OF[0]].shape == (20,)
    assert torch.allclose(directions(probe, cases).norm(dim=1), torch.ones(12))
    strongest = steer(model, [probe, probe], cases, 1)[-1]
    assert strongest.target >= 0.9
    assert strongest.random_target <= 0.4
