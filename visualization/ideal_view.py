"""The ideal reader beside the model: bits of both at each token, and what is so in the story.

    regret_t = bits of the model - bits of the ideal reader, at token t; it can be negative, where
               the model guesses better by luck. Its mean is not: that is KL(P* || p), given too.

Previous: regret.py.  Next: ablation.py.
"""

from dataclasses import dataclass

from rich.console import Console

from data.tiny_world import english, russian
from data.tiny_world.stories import corpus
from data.tiny_world.world import PLACES, State
from tokenizer import UnseenCharacter
from training.progress import show_table
from visualization.blocks import Table
from visualization.facts import outcomes
from visualization.ideal import IdealReader, Reading, divergence, read_ideally, reader_of
from visualization.inspection import Inspection, Spoken, View
from visualization.regret import KindRegret, ideal_bits, lay_out, regret_by_kind, token_bits
from visualization.surprise import bits_of, log_probabilities

N_STORIES = 100  # validation stories of which the regret by kind of event is the sum
N_PRINTED = 10
COLUMNS = ["kind", "n", "ideal_bits", "model_bits", "regret", "share_of_regret", "certain",
           "unknown"]  # fmt: skip
AFTER_OPENING = ("middle", "end", "over")  # stages of a story in which people have beliefs


@dataclass(frozen=True)
class EventView:
    """An event of the text, from its first to its last token, and what is so after it."""

    kind: str
    first: int
    last: int
    facts: Spoken


@dataclass(frozen=True)
class KindView:
    """What the events of one kind cost in N_STORIES validation stories, in bits."""

    kind: str
    n: int
    ideal_bits: float
    model_bits: float
    regret: float
    share_of_regret: float
    certain: int  # words that an ideal reader knows
    unknown: int  # of these, words that the model gives less than one half


@dataclass(frozen=True)
class Ideal:
    """What the ideal reader knew at each token; None where nothing is predicted."""

    bits: list[float | None]
    top: list[list[tuple[str, float]]]  # of the token after each position
    kl: list[float | None]  # the same position's KL(P* || p) in bits
    regret: list[float | None]
    impossible_from: int | None  # the first token that no story of the world has there
    events: list[EventView]
    by_kind: list[KindView]
    tables: list[Table]  # by_kind as the page draws it


def ideal_of(inspection: Inspection) -> Ideal | None:
    """Returns what the ideal reader knew; None for a run that no built-in world trained."""
    try:
        reader = reader_of(inspection)
        if reader is None:
            return None
        reading = read_ideally(inspection.tokens, reader)
    except UnseenCharacter:  # too few stories had all letters of the world
        return None
    if not reading.told and reading.impossible_from is not None:
        return None  # a text of another kind, as a chat
    logits, tokens = inspection.trace.logits[0], inspection.trace.tokens[0]
    model = [None, *(bits_of(logits, tokens) if len(tokens) > 1 else [])]
    regret = [
        None if paid is None or ideal is None else round(paid - ideal, 5)
        for paid, ideal in zip(model, reading.bits, strict=True)
    ]
    kinds = kinds_of(inspection, reader)
    return Ideal(
        bits=[None if bits is None else round(bits, 5) for bits in reading.bits],
        top=[likeliest(inspection, after) for after in reading.after],
        kl=divergences(inspection, reading),
        regret=regret,
        impossible_from=reading.impossible_from,
        events=events_of(reading),
        by_kind=kinds,
        tables=[Table("by_kind", COLUMNS, [[*vars(row).values()] for row in kinds])],
    )


def likeliest(inspection: Inspection, after: dict[int, float]) -> list[tuple[str, float]]:
    """Returns the likeliest next tokens as texts, each with its probability."""
    ranked = sorted(after.items(), key=lambda pair: -pair[1])[: inspection.top]
    texts = ((inspection.text_of(id), p) for id, p in ranked)
    return [(token.text or f"<{token.bytes}>", round(p, 6)) for token, p in texts]


def divergences(inspection: Inspection, reading: Reading) -> list[float | None]:
    """Returns KL(P* || p) of the token after each position, in bits."""
    rows = (row for chunk in log_probabilities(inspection.trace.logits[0]) for row in chunk)
    return [
        round(divergence(after, row), 5) if after else None
        for after, row in zip(reading.after, rows, strict=True)
    ]


def events_of(reading: Reading) -> list[EventView]:
    """Returns the events of a text with the truth after each of them, in words."""
    return [
        EventView(
            told.event.kind,
            told.first,
            told.last,
            {"en": describe_english(state), "ru": describe_russian(state)},
        )
        for told, state in outcomes(reading.told)
    ]


def kinds_of(inspection: Inspection, reader: IdealReader) -> list[KindView]:
    """Returns the regret by kind of event, summed over validation stories."""
    model, end = inspection.model, inspection.tokenizer.end_of_text
    sample = corpus(reader.language, 0, N_STORIES)[1]
    layout = lay_out(sample, inspection.tokenizer, reader)
    ideal, paid = ideal_bits(layout, reader), token_bits(model, layout, end)
    rows = regret_by_kind(layout, ideal, paid)
    whole = sum(row.regret for row in rows)
    return [kind_view(row, whole) for row in rows]


def kind_view(row: KindRegret, whole: float) -> KindView:
    """Returns the figures of a kind of event, given the regret of all kinds."""
    return KindView(
        kind=row.kind,
        n=row.n,
        ideal_bits=round(row.ideal_bits, 3),
        model_bits=round(row.model_bits, 3),
        regret=round(row.regret, 3),
        share_of_regret=round(row.regret / whole, 5) if whole else 0.0,
        certain=row.certain,
        unknown=row.unknown,
    )


def describe_english(state: State) -> str:
    """Returns what is so in a story: who and what is where, who wants it, who believes what."""
    at, name = english.AT, english.name
    said = [f"{name(p)} is {at[state.where[p]]}" for p in state.people if p in state.where]
    if state.thing:
        spot = state.where[state.thing]
        said.append(f"the {state.thing} is {at[spot] if spot in PLACES else f'with {name(spot)}'}")
    if state.wisher:
        end = "has the wish fulfilled" if state.fulfilled else "wants it"
        said.append(f"{name(state.wisher)} {end}")
    if state.stage in AFTER_OPENING:
        for person in state.people:
            spot = state.beliefs.get((person, state.thing), "")
            if not spot:
                said.append(f"{name(person)} does not know where it is")
            elif not state.has(spot):
                believed = at[spot] if spot in PLACES else f"with {name(spot)}"
                said.append(f"{name(person)} believes it {believed}")
    return "; ".join(said)


def describe_russian(state: State) -> str:
    """Returns the same in Russian."""
    at, name = russian.AT, russian.name
    said = [f"{name(p)} {at[state.where[p]]}" for p in state.people if p in state.where]

    def spot_of(spot: str) -> str:
        return at[spot] if spot in PLACES else f"у {russian.NAMES[spot].genitive}"

    if state.thing:
        thing = russian.NOUNS[state.thing].nominative
        said.append(f"{thing} {spot_of(state.where[state.thing])}")
        if state.wisher:
            end = "желание исполнено" if state.fulfilled else f"хочет {name(state.wisher)}"
            said.append(end)
        if state.stage in AFTER_OPENING:
            for person in state.people:
                spot = state.beliefs.get((person, state.thing), "")
                if not spot:
                    said.append(f"{name(person)} не знает, где {thing}")
                elif not state.has(spot):
                    said.append(f"{name(person)} думает, что {thing} {spot_of(spot)}")
    return "; ".join(said)


def show_ideal(console: Console, inspection: Inspection, view: Ideal) -> None:
    """Prints the tokens of the largest regret, and the regret by kind of event."""
    if view.impossible_from is not None:
        token = inspection.shown(inspection.tokens[view.impossible_from])
        console.print(f"no story of the world has {token} at {view.impossible_from}")
    regrets = {t: regret for t, regret in enumerate(view.regret) if regret is not None}
    rows = []
    for t in sorted(regrets, key=lambda t: -regrets[t])[:N_PRINTED]:
        ideal = view.bits[t] or 0.0
        best = "  ".join(f'"{text}" {p:.0%}' for text, p in (view.top[t - 1] if t else [])[:3])
        token, paid = inspection.shown(inspection.tokens[t]), ideal + regrets[t]
        rows.append([str(t), token, f"{paid:.2f}", f"{ideal:.2f}", f"{regrets[t]:.2f}", best])
    show_table(console, ["position", "token", "model", "ideal", "regret", "ideal reader"], rows)
    console.print(f"\n{N_STORIES} validation stories, in bits")
    heading = ["kind of event", "n", "model", "ideal", "regret", "share", "unknown of certain"]
    kinds = [
        [row.kind, str(row.n), f"{row.model_bits:.1f}", f"{row.ideal_bits:.1f}",
         f"{row.regret:.1f}", f"{row.share_of_regret:.0%}", f"{row.unknown} of {row.certain}"]
        for row in view.by_kind
    ]  # fmt: skip
    show_table(console, heading, kinds, justify="right")


def sum_up(inspection: Inspection, view: Ideal) -> str:
    """Returns the bits of the ideal reader and the regret, and the costliest kind of event."""
    ideal = sum(bits for bits in view.bits if bits is not None)
    regret = sum(bits for bits in view.regret if bits is not None)
    worst = view.by_kind[0]
    return (
        f"{ideal:.1f} bits for an ideal reader, the model pays {regret:+.1f}; in {N_STORIES} "
        f"stories {worst.share_of_regret:.0%} of what it pays above is for {worst.kind}"
    )


IDEAL = View(ideal_of, show_ideal, summary=sum_up)
