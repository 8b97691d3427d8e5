"""Reads a story of the small world as a reader does, sentence by sentence, and answers questions.

It shares the tables of words with the generator, and nothing else: who is where, who has seen what
and what "she" means follow from the sentences alone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

from data.tiny_world import english, russian
from data.tiny_world.world import PEOPLE, PLACES, THINGS
from finetuning.tiny_questions.questions import Answer, Question


def either(words: Iterable[str | tuple[str, str]]) -> str:
    """A pattern for any of some words, or of their forms, the longest first."""
    forms = {form for word in words for form in ((word,) if isinstance(word, str) else word)}
    return "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))


@dataclass
class Words:
    """A pattern for each kind of sentence of one language, and what its words mean."""

    patterns: dict[str, str]
    people: dict[str, str]
    places: dict[str, str]
    things: dict[str, str]
    looks: dict[str, str]

    def sentences(self, text: str) -> Iterable[tuple[str, dict[str, str]]]:
        """The kind and the parts of each sentence that says something."""
        parts = [
            f"(?P<{kind}>{re.sub(r'[(][?]P<', f'(?P<{kind}_', pattern)})"
            for kind, pattern in self.patterns.items()
        ]
        for match in re.finditer("|".join(parts), text):
            kind = next(kind for kind in self.patterns if match[kind])
            groups = match.groupdict().items()
            yield kind, {key[len(kind) + 1 :]: value for key, value in groups
                         if value and key.startswith(f"{kind}_")}  # fmt: skip

    def place(self, text: str) -> str:
        """The place in some words, or ""."""
        found = [self.places[word] for word in self.places if text.lower().endswith(word)]
        return found[0] if found else ""


@cache
def english_words() -> Words:
    people = {name.capitalize(): name for name in PEOPLE}
    name, who = either(people), either([*people, "He", "She"])
    at = either(english.AT.values())
    capital_at = either([english.capital(at) for at in english.AT.values()])
    thing = rf"the (?:{either(THINGS)})"
    some = rf"an? (?P<look>\w+) (?P<thing>{either(THINGS)})\."
    patterns = {
        "too": rf"(?P<who>{name}) was (?:also )?(?P<at>{at})(?: too| as well)?\.",
        "at": rf"(?P<who>{name}) (?:{either(english.BEING)}) (?P<at>{at})\.",
        "lies": rf"(?P<at>{capital_at}) (?:{either(english.LYING)}) {some}",
        "knows": rf"(?P<at>{capital_at}) (?P<who>{name}|he|she) had (?:seen|left|hidden) {some}",
        "has": rf"(?P<who>{who}) (?:had|was holding) {some}",
        "wants": rf"(?P<who>{who}) (?:{either(english.WANTING)}) the [\w ]+? (?P<why>to [^.]+)\.",
        "go": rf"(?P<who>{name}) (?:{either(english.GOING)}) to the (?P<at>\w+)\.",
        "take": rf"(?P<who>{who}) (?:\w+ly )?(?:took|picked up|grabbed) {thing}\.",
        "put": rf"(?P<who>{who}) (?:put|set|laid) {thing} (?:down|aside)\.",
        "give": rf"(?P<who>{who}) (?:\w+ly )?(?:gave|handed|passed) (?P<whom>{name}) {thing}\.",
        "ask": rf'[^"]*\?" asked (?P<who>{name})\. "(?P<quote>[^"]+)," said (?P<whom>{name})\.',
        "tell": rf"(?P<who>{who}) (?:told|let|whispered to) (?P<whom>{name}) (?:know )?that "
        rf"{thing} was (?P<at>{at})\.",
        "promise": rf"(?P<who>{who}) (?:promised|gave h\w+ word|offered) to bring ",
        "says": rf'" (?:asked|said) (?P<who>{name})\.',
        "other": rf"(?<=[.!?\"] )(?P<who>{name}) ",
    }
    places = {at.lower(): place for place, at in english.AT.items()} | {at: at for at in PLACES}
    looks = {look: look for look in russian.ADJECTIVES}
    return Words(patterns, people, places, {thing: thing for thing in THINGS}, looks)


@cache
def russian_words() -> Words:
    names, nouns = russian.NAMES.values(), russian.NOUNS.values()
    nominative, dative = either(n.nominative for n in names), either(n.dative for n in names)
    who = f"{nominative}|Она|Он"
    at, to = either(russian.AT.values()), either(russian.TO.values())
    capital_at = either([russian.capital(at) for at in russian.AT.values()])
    noun, thing = either(n.nominative for n in nouns), either(n.accusative for n in nouns)
    some = rf"(?P<look>\w+) (?P<thing>{noun}|{thing})\."
    been = r"(?:был[ао]?|лежал[ао]?)"
    patterns = {
        "too": rf"(?P<who>{nominative}) тоже \w+ (?P<at>{at})\.",
        "at": rf"(?P<who>{nominative}) (?:{either(russian.BEING)}) (?P<at>{at})\.",
        "lies": rf"(?:(?P<at>{capital_at}) {been}|Где-то (?P<at2>{at}) {been}|"
        rf"Кто-то оставил (?P<at3>{at})) {some}",
        "knows": rf"(?P<who>{who}) (?:{either(russian.KNOWING)}) (?P<at>{at}) {some}",
        "has": rf"У (?P<who>{either(n.genitive for n in names)}|неё|него) {been} {some}",
        "holds": rf"(?P<who>{who}) держала? в руках {some}",
        "wants": rf"(?P<who>{dative}|{who}|Ей|Ему) (?:был|понадоб|хоте)[\w ]+, "
        r"чтобы (?P<why>[^.]+)",
        "go": rf"(?P<who>{nominative}) (?:{either(russian.GOING)}) (?P<at>{to})\.",
        "take": rf"(?P<who>{who}) (?:{either(russian.TAKING)}) (?:{thing})\.",
        "put": rf"(?P<who>{who}) (?:осторожно )?(?:по|от)(?:лож|став)ила? (?:{thing})[^.]*\.",
        "give": rf"(?P<who>{who}) (?:{either(russian.GIVING)}) (?P<whom>{dative}) (?:{thing})\.",
        "ask": rf"\?» — спросила? (?P<who>{nominative})\. «(?P<quote>[^»]+)», — ответила? "
        rf"(?P<whom>{nominative})\.",
        "tell": rf"(?P<who>{who}) (?:{either(russian.TELLING)}) (?P<whom>{dative}), что (?:{noun}) "
        rf"(?P<at>{at})\.",
        "promise": rf"(?P<who>{who}) (?:{either(russian.PROMISING)}) принести ",
        "says": rf"» — (?:спросила?|попросила?|сказала?) (?P<who>{nominative})\.",
        "other": rf"(?<=[.!?»] )(?P<who>{nominative}) ",
    }
    people = {
        form: key
        for key, n in russian.NAMES.items()
        for form in (n.nominative, n.genitive, n.dative, n.accusative)
    }
    places = {
        form.lower(): key for words in (russian.AT, russian.TO) for key, form in words.items()
    }
    things = {form: k for k, n in russian.NOUNS.items() for form in (n.nominative, n.accusative)}
    looks = {
        form: key
        for key, n in russian.ADJECTIVES.items()
        for form in (*n.nominative, *n.accusative)
    }
    return Words(patterns, people, places, things, looks)


@dataclass
class Reading:
    """What a reader knows at the end of a text."""

    words: Words
    where: dict[str, str] = field(default_factory=dict)  # of people
    path: dict[str, list[str]] = field(default_factory=dict)
    thing: str = ""
    spot: str = ""  # a place, or who holds the thing
    first_place: str = ""
    look: str = ""
    wisher: str = ""
    why: str = ""
    sees: dict[tuple[str, str], str] = field(default_factory=dict)  # (who, what) -> last known spot
    quote: list[tuple[str, str]] = field(default_factory=list)  # (who, words)
    promiser: str = ""
    is_kept: bool = False

    def read(self, text: str) -> "Reading":
        subject = ""
        for kind, said in self.words.sentences(text):
            who = self.words.people.get(said.get("who", ""), subject)
            speaks_last = kind in ("give", "ask")  # "Thank you!" or an answer ends the sentence
            subject = self.words.people[said["whom"]] if speaks_last else who
            self.follow(kind, who, said)
            if self.wisher:
                self.look_around()
        return self

    def follow(self, kind: str, who: str, said: dict[str, str]) -> None:
        """Changes what is known by one sentence."""
        place = self.words.place(said.get("at") or said.get("at2") or said.get("at3") or "")
        whom = self.words.people.get(said.get("whom", ""), "")
        if kind in ("at", "too") and len(self.where) < 2:
            self.where[who], self.path[who] = place, [place]
        elif kind in ("lies", "knows", "has", "holds"):
            self.thing, self.look = self.words.things[said["thing"]], self.words.looks[said["look"]]
            self.spot = place or who
            self.first_place = place or self.where[who]
            if kind == "knows":
                self.sees[who, self.thing] = place
        elif kind == "wants":
            self.wisher, self.why = who, said["why"]
        elif kind == "go":
            other = next(person for person in self.where if person != who)
            if self.where[other] == self.where[who]:
                self.sees[other, who] = place
            self.where[who] = place
            self.path[who].append(place)
        elif kind == "take":
            assert self.spot == self.where[who]
            self.spot = who
        elif kind == "put":
            assert self.spot == who
            self.spot = self.where[who]
        elif kind == "give":
            assert self.spot == who and self.where[who] == self.where[whom]
            self.spot = whom
            self.is_kept |= who == self.promiser
        elif kind == "ask":
            self.quote.append((whom, said["quote"]))
            if heard := self.words.place(said["quote"]):
                self.sees[who, self.thing] = heard
        elif kind == "tell":
            self.sees[whom, self.thing] = place
        elif kind == "promise":
            self.promiser = who

    def look_around(self) -> None:
        """Each person sees who and what is at the same place, and what is not there any more."""
        for person, here in self.where.items():
            other = next(name for name in self.where if name != person)
            is_near = self.where[other] == here
            if is_near:
                self.sees[person, other] = here
            elif self.sees.get((person, other)) == here:
                del self.sees[person, other]
            believed = self.sees.get((person, self.thing))
            if self.spot in (here, person) or (is_near and self.spot == other):
                self.sees[person, self.thing] = self.spot
            elif believed and believed in (here, person, other if is_near else ""):
                del self.sees[person, self.thing]

    def place_of(self, what: str) -> str:
        spot = self.spot if what == self.thing else what
        return self.where.get(spot, spot)

    def believed(self, person: str, what: str) -> str:
        spot = self.sees.get((person, what), "")
        if spot == person:
            return self.where[person]
        return self.sees.get((person, spot), "") if spot in self.where else spot

    def answer(self, question: Question, reasons: dict[str, tuple[str, ...]]) -> Answer:
        """The answer to a question; a quote is returned in the words of the text."""
        form, who, what = question.form or question.kind, question.who, question.what
        known = {*self.where, self.thing, ""}
        if not {who, what} <= known or (form == "why" and who != self.wisher):
            return Answer("unsaid")
        if form in ("where-thing", "where-person"):
            return Answer("place", self.place_of(who or what))
        if form == "who-has":
            return Answer("holder", self.spot if self.spot in self.where else "")
        if form == "where-first":
            return Answer("place", self.first_place)
        if form == "before":
            assert self.path[who].count(question.where) == 1
            return Answer("place", self.path[who][self.path[who].index(question.where) - 1])
        if form == "who-wants":
            return Answer("person", self.wisher)
        if form == "why":
            return Answer("reason", str(reasons[what].index(self.why)))
        if form == "look":
            return Answer("look", self.look)
        if form == "knows":
            return Answer("yes" if self.believed(who, what) == self.place_of(what) else "no")
        if form == "thinks":
            place = self.believed(who, what)
            return Answer("place", place) if place else Answer("unknown")
        if form == "been":
            return Answer("yes" if question.where in self.path[who] else "no")
        if form == "together":
            return Answer("yes" if self.where[who] == self.where[what] else "no")
        if form == "said":
            ((speaker, words),) = self.quote
            assert speaker == who
            return Answer("quote", words)
        if form == "promised-who":
            return Answer("promiser", self.promiser)
        if form == "promised-kept":
            return Answer("yes" if self.is_kept else "no")
        assert form == "how-many"
        return Answer("times", str(len(self.path[who]) - 1))
