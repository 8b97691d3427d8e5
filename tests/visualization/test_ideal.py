"""The ideal reader: its bits are those of the stories, and its probabilities those of the world."""

import math
import time
from collections import defaultdict
from itertools import islice

import pytest
import torch
from oracles.world_stories import sample, vocabulary

from data.tiny_world.stories import LANGUAGES, Story, floor_bits_per_byte, stories
from data.tiny_world.world import State, happen, possible
from tokenizer import Tokenizer
from visualization.ideal import IdealReader, divergence, read_ideally, story_tokens

WORLDS = pytest.mark.parametrize("world", list(LANGUAGES))
KINDS = pytest.mark.parametrize("kind", ["280", "1200", "char"])


def total_and_bytes(texts: list[Story], tokenizer: Tokenizer, world: str) -> tuple[float, int]:
    """Reads stories ideally, checks each against its events; returns their bits and bytes."""
    reader = IdealReader(tokenizer, LANGUAGES[world])
    total = 0.0
    for story in texts:
        tokens = story_tokens(story.text, tokenizer)
        reading = read_ideally(tokens, reader)
        assert abs(reading.total() - story.bits) <= 1e-9
        assert [told.event for told in reading.told] == story.events
        assert reading.impossible_from is None
        assert reading.bits[0] is None
        assert reading.bits[-1] == 0.0  # the end of the text is certain
        assert len(reading.bits) == len(reading.after) == len(tokens)
        total += reading.total()
    return total, sum(len(story.text.encode()) for story in texts)


@WORLDS
@KINDS
def test_the_bits_of_the_tokens_are_those_of_the_story(world: str, kind: str) -> None:
    texts = sample(world, 30)[: 30 if kind == "1200" else 8]
    total, n_bytes = total_and_bytes(texts, vocabulary(world, kind), world)
    assert abs(total / n_bytes - floor_bits_per_byte(texts)) <= 1e-9


@pytest.mark.slow
@WORLDS
def test_a_thousand_stories_have_the_bits_of_the_floor(world: str) -> None:
    texts = list(islice(stories(LANGUAGES[world], "validation"), 1000))
    started = time.process_time()
    total, n_bytes = total_and_bytes(texts, vocabulary(world, "1200"), world)
    print(f"{world}: {time.process_time() - started:.1f} s")
    assert abs(total / n_bytes - floor_bits_per_byte(texts)) <= 1e-9


@pytest.mark.parametrize(
    ("world", "kind"),
    [("tiny-world", "280"), ("tiny-world", "char"), ("tiny-world-ru", "280")],
)
def test_the_probabilities_are_those_of_an_enumeration_of_whole_texts(
    world: str, kind: str
) -> None:
    tokenizer, language = vocabulary(world, kind), LANGUAGES[world]
    story = sample(world, 3)[2]
    reading = read_ideally(story_tokens(story.text, tokenizer), IdealReader(tokenizer, language))
    state, text = State(), ""
    for event, told in zip(story.events[:14], reading.told, strict=False):
        options = possible(state)
        total = sum(weight for weight, _ in options)
        weighed = [
            (weight / total / len(events), tokenizer.encode(text + language.tell(state, other)))
            for weight, events in options
            for other in events
        ]
        actual = tokenizer.encode(text + language.tell(state, event))
        for stop in range(told.first - 1, told.last):  # the end-of-text token is not in these
            agreeing: dict[int, float] = defaultdict(float)
            for probability, tokens in weighed:
                if tokens[:stop] == actual[:stop] and len(tokens) > stop:
                    agreeing[tokens[stop]] += probability
            after, whole = reading.after[stop], sum(agreeing.values())
            assert after.keys() == agreeing.keys()
            assert all(abs(after[t] - agreeing[t] / whole) <= 1e-12 for t in after)
        text += language.tell(state, event) + " "
        happen(state, event)


def test_a_word_that_no_story_has_there_is_where_the_text_becomes_impossible() -> None:
    tokenizer, story = vocabulary("tiny-world", "280"), sample("tiny-world", 1)[0]
    reader = IdealReader(tokenizer, LANGUAGES["tiny-world"])
    words = story.text.split(" ")
    before = len(tokenizer.encode(" ".join(words[:20])))
    changed = " ".join([*words[:20], "Xylophone", *words[21:]])
    reading = read_ideally(story_tokens(changed, tokenizer), reader)
    whole = read_ideally(story_tokens(story.text, tokenizer), reader)
    assert reading.impossible_from is not None
    assert before < reading.impossible_from <= before + 3  # of its tokens, the first may fit
    here = reading.impossible_from
    assert reading.bits[: before + 1] == whole.bits[: before + 1]
    assert set(reading.bits[here:]) == {None}
    assert not any(reading.after[here:])
    assert whole.impossible_from is None


def test_a_beginning_and_several_stories_are_read_as_well() -> None:
    tokenizer, (first, second) = vocabulary("tiny-world", "1200"), sample("tiny-world", 2)
    reader = IdealReader(tokenizer, LANGUAGES["tiny-world"])
    both = story_tokens(first.text, tokenizer) + tokenizer.encode(second.text)
    reading = read_ideally(both, reader)
    assert abs(reading.total() - first.bits - second.bits) <= 1e-9
    assert reading.after[-1] == {tokenizer.end_of_text: 1.0}
    part = read_ideally(both[:60], reader)
    assert part.bits == reading.bits[:60]
    assert part.after == reading.after[:60]
    without_end = read_ideally(both[1:60], reader)
    assert without_end.bits == reading.bits[1:60]


def test_the_divergence_from_the_ideal_is_zero_for_the_ideal_alone() -> None:
    ideal = {0: 0.5, 2: 0.25, 3: 0.25}
    same = torch.tensor([0.5, 0.0, 0.25, 0.25]).log()
    uniform = torch.full((4,), 0.25).log()
    assert divergence(ideal, same) == pytest.approx(0, abs=1e-7)  # of fp32 logarithms
    assert divergence(ideal, uniform) == pytest.approx(2 - 1.5)  # bits: log2 4 - the entropy
    assert divergence({1: 1.0}, same) == math.inf
