"""Predicates: what is true at each position of a text, of its words or of the world it tells of.

Each is a question that a neuron may answer: does a place come next, is this inside a quotation, is
the wish fulfilled? A position's answer may look one token ahead, for that is what the model
predicts there; what is so in the world is so from the last token of the event that made it so.
Previous: embeddings_picture.py.  Next: neurons.py.
"""

import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from commands.language import Language
from data.tiny_world.world import GIRLS
from tokenizer import Tokenizer
from visualization.facts import (
    BELIEF_OF,
    PERSONS,
    PLACE_OF,
    UNKNOWN,
    false_beliefs,
    outcomes,
    truths,
)
from visualization.ideal import IdealReader, read_ideally
from visualization.word_classes import Class, Named, words_of

WORD = re.compile(r" ?(\w+)")
PRONOUNS = {"en": {"she", "he"}, "ru": {"она", "он", "ей", "ему", "неё", "него"}}
OPENING, CLOSING, EITHER = "«“", "»”", '"'


@dataclass(frozen=True)
class TextRead:
    """A sequence of tokens with its words."""

    tokens: Sequence[int]
    tokenizer: Tokenizer
    language: Language | None = None  # of the world that the text is of
    reader: IdealReader | None = None  # of the same world

    @cached_property
    def texts(self) -> list[str]:
        """The characters that are whole with each token: none after the first half of one."""
        decoder = getincrementaldecoder("utf-8")(errors="replace")
        return [decoder.decode(self.tokenizer.token_bytes(id)) for id in self.tokens]

    @cached_property
    def words(self) -> dict[int, str]:
        """Each word by the position of its first token."""
        position_at, offset = dict[int, int](), 0
        for position, id in enumerate(self.tokens):
            position_at[offset] = position
            offset += len(self.tokenizer.token_bytes(id))
        whole = b"".join(map(self.tokenizer.token_bytes, self.tokens)).decode(errors="replace")
        found, n_bytes, end = dict[int, str](), 0, 0
        for match in WORD.finditer(whole):
            n_bytes += len(whole[end : match.start()].encode())
            end = match.start()
            if n_bytes in position_at:
                found[position_at[n_bytes]] = match[1]
        return found

    @cached_property
    def named(self) -> dict[int, Named]:
        """What the words name that begin at each position."""
        known = words_of(self.language) if self.language else {}
        return {at: known[word] for at, word in self.words.items() if word in known}

    @cached_property
    def truth(self) -> list[dict[str, str]]:
        """What is so at each position, as facts.truths says it; nothing before the first event."""
        rows: list[dict[str, str]] = [{} for _ in self.tokens]
        told = read_ideally(self.tokens, self.reader).told if self.reader else []
        for span, state in outcomes(told):
            rows[span.last :] = [truths(state)] * (len(rows) - span.last)
        return rows

    def before(self, kinds: Sequence[Class]) -> list[list[Named]]:
        """Returns for each position what has been named up to it, of some classes, in order."""
        so_far, rows = list[Named](), list[list[Named]]()
        for position in range(len(self.tokens)):
            what = self.named.get(position)
            if what and what.kind in kinds:
                so_far = [*so_far, what]
            rows.append(so_far)
        return rows


Predicate = Callable[[TextRead], list[bool]]  # one answer for each position


def next_repeats(text: TextRead) -> list[bool]:
    """Whether the next token has stood in the text before."""
    ids = text.tokens
    return [id in set(ids[: t + 1]) for t, id in enumerate(ids[1:])] + [False]


def next_ends_sentence(text: TextRead) -> list[bool]:
    """Whether the next token ends a sentence."""
    return [part[:1] in (".", "!", "?") for part in text.texts[1:]] + [False]


def next_is_capital(text: TextRead) -> list[bool]:
    """Whether the next token begins with a capital letter."""
    return [part.strip()[:1].isupper() for part in text.texts[1:]] + [False]


def in_quotation(text: TextRead) -> list[bool]:
    """Whether a quotation is open behind the position."""
    is_open, answers = False, list[bool]()
    for part in text.texts:
        for character in part:
            if character in EITHER:
                is_open = not is_open
            elif character in OPENING + CLOSING:
                is_open = character in OPENING
        answers.append(is_open)
    return answers


def next_names(kind: Class) -> Predicate:
    """Returns the predicate whether the next word names something of a class."""

    def predicate(text: TextRead) -> list[bool]:
        named = (text.named.get(t + 1) for t in range(len(text.tokens)))
        return [what is not None and what.kind == kind for what in named]

    return predicate


def next_place_is_known(text: TextRead) -> list[bool]:
    """Whether the next word names a place that was named before."""
    before = text.before(["place"])
    nexts = (text.named.get(t + 1) for t in range(len(text.tokens)))
    return [what is not None and what in so_far for what, so_far in zip(nexts, before, strict=True)]


def next_is_pronoun(text: TextRead) -> list[bool]:
    """Whether the next word is he or she."""
    pronouns = PRONOUNS[text.language or "en"]
    nexts = (text.words.get(t + 1, "") for t in range(len(text.tokens)))
    return [word.lower() in pronouns for word in nexts]


def last_person_is_girl(text: TextRead) -> list[bool]:
    """Whether the person who was named last is a girl."""
    return [bool(p) and p[-1].which in GIRLS for p in text.before(["person"])]


def both_are_named(text: TextRead) -> list[bool]:
    """Whether both people have been named."""
    return [len(set(people)) > 1 for people in text.before(["person"])]


def thing_is_named(text: TextRead) -> list[bool]:
    """Whether the thing has been named."""
    return [len(things) > 0 for things in text.before(["thing"])]


def is_place(text: TextRead) -> list[bool]:
    """Whether a place is named here."""
    named = (text.named.get(t) for t in range(len(text.tokens)))
    return [what is not None and what.kind == "place" for what in named]


def where(is_so: Callable[[dict[str, str]], bool]) -> Predicate:
    """Returns the predicate whether something is so in the world, given its facts."""
    return lambda text: [is_so(facts) for facts in text.truth]


OF_ANY_TEXT: Mapping[str, Predicate] = {
    "next_repeats": next_repeats,
    "next_ends_sentence": next_ends_sentence,
    "next_is_capital": next_is_capital,
    "in_quotation": in_quotation,
}
OF_A_WORLD: Mapping[str, Predicate] = {
    "next_person": next_names("person"),
    "next_place": next_names("place"),
    "next_thing": next_names("thing"),
    "next_look": next_names("look"),
    "next_place_is_known": next_place_is_known,
    "next_is_pronoun": next_is_pronoun,
    "is_place": is_place,
    "last_person_is_girl": last_person_is_girl,
    "both_are_named": both_are_named,
    "thing_is_named": thing_is_named,
    "wish_is_fulfilled": where(lambda facts: facts.get("fulfilled") == "yes"),
    "first_person_wishes": where(lambda facts: facts.get("wisher") == PERSONS[0]),
    "thing_is_held": where(lambda facts: facts.get("thing") in PERSONS),
    "somebody_is_wrong": where(lambda facts: bool(false_beliefs(facts))),
    "somebody_knows_nothing": where(lambda facts: UNKNOWN in map(facts.get, BELIEF_OF)),
    "people_are_together": where(
        lambda facts: len({facts.get(place, place) for place in PLACE_OF}) == 1
    ),
}


def predicates_for(language: Language | None) -> dict[str, Predicate]:
    """Returns the predicates that can be asked of a text, those of a world where it is of one."""
    return {**OF_ANY_TEXT, **(OF_A_WORLD if language else {})}
