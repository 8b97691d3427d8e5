"""The verdict of a built-in world on a text: what could follow everywhere, and what cannot be.

A text of a world is impossible from the first token that no story has in its place. What is so in
the story there, and what could have come instead, is the reason.
Previous: command.py.  Next: plain_model.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cfg_gpt2 import RunConfig
from commands.language import Language
from data.tiny_world.stories import LANGUAGES
from tokenizer import Tokenizer, UnseenCharacter
from visualization.ideal import IdealReader, read_ideally
from visualization.ideal_view import EventView, events_of

N_TOP = 8  # tokens that could follow, of each position
N_SENTENCES = 3  # that could stand where a text ends, or fails


@dataclass(frozen=True)
class Verdict:
    """What an ideal reader knows about a text. Positions count its tokens from 0."""

    bits: list[float | None]  # of each token; None: not predicted
    top: list[list[tuple[int, float]]]  # what can follow each position, with its probability
    start: list[tuple[int, float]]  # what can begin a story
    events: list[EventView]  # that are told to their end, with what is so after each
    impossible_from: int | None  # the first token that no story has there
    kinds: list[tuple[str, float]]  # of the event that is told at the end, or where it fails
    sentences: list[tuple[str, float]]  # that go on so at the end, or could where it fails
    is_over: bool  # whether the text ends with the end of a story


def world_of(config: RunConfig) -> Language | None:
    """Returns the language of the built-in world that a run was trained on; None: another text."""
    worlds: dict[str, Language] = {"tiny-world": "en", "tiny-world-ru": "ru"}
    return worlds.get(config.data.path[0])


def verdict_on(tokens: list[int], tokenizer: Tokenizer, config: RunConfig) -> Verdict | None:
    """Returns the verdict; None for a run that no world trained."""
    if world_of(config) is None:
        return None
    try:
        reader = IdealReader(tokenizer, LANGUAGES[config.data.path[0]])
        start = likeliest(reader.distribution())
        reading = read_ideally(tokens, reader)
    except UnseenCharacter:  # too few stories had all letters of the world
        return None
    return Verdict(
        bits=[None if bits is None else round(bits, 5) for bits in reading.bits],
        top=[likeliest(after) for after in reading.after],
        start=start,
        events=events_of(reading),
        impossible_from=reading.impossible_from,
        kinds=kinds_at(reader),
        sentences=sentences_at(reader),
        is_over=reading.impossible_from is None and reader.state.stage == "over",
    )


def likeliest(after: Mapping[int, float]) -> list[tuple[int, float]]:
    """Returns the likeliest tokens, the first one first, each with its probability."""
    ranked = sorted(after.items(), key=lambda pair: -pair[1])[:N_TOP]
    return [(id, round(p, 6)) for id, p in ranked]


def kinds_at(reader: IdealReader) -> list[tuple[str, float]]:
    """Returns the kinds of event that agree with what was read of the last one, likeliest first."""
    shares: dict[str, float] = {}
    for branch in reader.branches:
        for telling in branch.tellings:
            kind = telling.event.kind
            shares[kind] = shares.get(kind, 0.0) + telling.probability
    total = sum(shares.values())
    ranked = sorted(shares.items(), key=lambda pair: -pair[1])
    return [(kind, round(share / total, 6)) for kind, share in ranked]


def sentences_at(reader: IdealReader) -> list[tuple[str, float]]:
    """Returns the likeliest tellings that agree with what was read of the last event."""
    tellings = [telling for branch in reader.branches for telling in branch.tellings]
    total = sum(telling.probability for telling in tellings)
    ranked = sorted(tellings, key=lambda telling: -telling.probability)[:N_SENTENCES]
    return [(telling.text, round(telling.probability / total, 6)) for telling in ranked]
