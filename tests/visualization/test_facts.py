"""The truth at every token, on a story written by hand and on generated ones of both worlds."""

from collections import Counter

import pytest
from oracles.world_stories import sample, vocabulary

from data.tiny_world.stories import LANGUAGES, read_story
from data.tiny_world.world import PLACES
from visualization.facts import (
    FACTS,
    THING,
    Mention,
    false_beliefs,
    find_mentions,
    known_places,
    outcomes,
    phrases_of,
    told_by,
    truths,
)
from visualization.ideal import IdealReader, Reading, read_ideally, story_tokens

WORLDS = pytest.mark.parametrize("world", list(LANGUAGES))

STORY = (
    "One windy autumn morning Anna was singing on the porch. Peter was on the porch too. "
    "In the attic he had hidden an old ball. Anna needed the old ball to play outside. "
    '"Where is the ball?" asked Anna. "In the attic," said Peter. '
    "He promised to bring Anna the ball. "
    "Soon Peter went to the attic. In the attic he saw the ball. "
    "He took the ball. Peter hurried to the porch. On the porch he saw Anna. "
    'He gave Anna the ball. "Thank you!" said Anna. At last she could play outside. '
    "In the end Anna was on the porch with the old ball, and Peter was there too. "
    "Peter had kept his promise. It was a good day."
)


def read(text: str, world: str) -> tuple[list[int], Reading, IdealReader]:
    tokenizer = vocabulary(world, "280")
    reader = IdealReader(tokenizer, LANGUAGES[world])
    tokens = story_tokens(text, tokenizer)
    return tokens, read_ideally(tokens, reader), reader


def test_the_truth_follows_the_story() -> None:
    _, reading, _ = read(STORY, "tiny-world")
    by_kind = {told.event.kind: truths(state) for told, state in outcomes(reading.told)}
    assert by_kind["weather"] == {}
    assert by_kind["too"] == {"place of person 1": "porch", "place of person 2": "porch"}
    assert by_kind["thing"]["thing"] == "attic"
    start = by_kind["reason"]
    assert (start["wisher"], start["fulfilled"]) == ("person 1", "no")
    assert (start["belief of person 1"], start["belief of person 2"]) == ("unknown", "attic")
    assert by_kind["ask"]["belief of person 1"] == "attic"
    assert by_kind["take"]["thing"] == "person 2"
    assert false_beliefs(by_kind["take"]) == ["person 1"]  # she believes it in the attic
    assert by_kind["give"]["thing"] == "person 1"
    assert false_beliefs(by_kind["give"]) == []
    assert by_kind["fulfil"]["fulfilled"] == "yes"
    assert set(by_kind["fulfil"]) == set(FACTS)


def test_each_mention_knows_whose_place_it_is_and_who_stated_it_last() -> None:
    tokens, reading, reader = read(STORY, "tiny-world")
    tokenizer = vocabulary("tiny-world", "280")
    mentions = find_mentions(reading.told, reader)

    def shown(mention: Mention) -> tuple[str, tuple[str, ...], str, str]:
        noun = tokenizer.decode(tokens[mention.first : mention.stop])
        source = tokenizer.decode(tokens[t] for t in mention.sources)
        return mention.kind, mention.about, noun, source

    assert [shown(m) for m in mentions] == [
        ("place", ("anna",), " porch", ""),
        ("too", ("peter",), " porch", " porch"),  # she is there
        ("knows", (THING,), " attic", ""),
        ("ask", (THING,), " attic", " attic"),
        ("go", ("peter",), " attic", " attic"),  # where the answer was
        ("arrival", ("peter", THING), " attic", " attic"),
        ("go", ("peter",), " porch", " porch"),
        ("arrival", ("peter", "anna"), " porch", " porch"),
        ("evening", ("anna",), " porch", " porch"),  # where he saw her
    ]
    places = {m.first for m in mentions if m.kind == "arrival"}
    assert mentions[-1].sources[0] in places  # the last statement, not the first
    assert [m.kind for m in known_places(mentions)] == ["ask", "evening"]


@WORLDS
def test_every_place_that_a_story_names_is_found(world: str) -> None:
    phrases, kinds, false = phrases_of(world)[1], Counter[str](), 0
    for story in sample(world, 40):
        tokens, reading, reader = read(story.text, world)
        nouns = {place: set[str]() for place in PLACES}
        for phrase, place in phrases.items():
            nouns[place].add(" " + phrase.split(" ")[-1])
        mentions = find_mentions(reading.told, reader)
        for mention in mentions:
            named = vocabulary(world, "280").decode(tokens[mention.first : mention.stop])
            assert named in nouns[mention.place]
            assert all(source < mention.first for source in mention.sources)
            where = [m for m in mentions if mention.sources and m.first == mention.sources[0]]
            assert all(m.place == mention.place for m in where)
        known = known_places(mentions)
        assert all(m.sources for m in known)
        assert all(reading.bits[t] == 0 for m in known for t in range(m.first, m.stop))
        kinds.update(m.kind for m in known)
        assert told_by(story, reader, 1) == reading.told
        assert read_story(story.text, LANGUAGES[world]).events == [t.event for t in reading.told]
        states = [truths(state) for _, state in outcomes(reading.told)]
        false += sum(len(false_beliefs(truth)) for truth in states)
    assert kinds["evening"] >= 40
    assert {"ask", "remember"} <= kinds.keys()
    assert false > 10
