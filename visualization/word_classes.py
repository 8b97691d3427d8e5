"""The words of a built-in world by what they name: people, places, things and looks.

Russian words change their endings, so a person, a place or a thing has several forms there; each
form knows which one it is a form of.
Previous: probes_view.py.  Next: sample.py.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from commands.language import Language
from data.tiny_world import english, russian
from data.tiny_world.world import LOOKS, PEOPLE, PLACES, THINGS
from tokenizer import Tokenizer

Class = Literal["person", "place", "thing", "look"]
CLASSES: tuple[Class, ...] = ("person", "place", "thing", "look")


class Named(NamedTuple):
    """What a word names: its class, and which one of it, by the world's own name."""

    kind: Class
    which: str


def words_of(language: Language) -> dict[str, Named]:
    """Returns what each word of a world names; words that name nothing are left out."""
    forms = english_forms() if language == "en" else russian_forms()
    return {word: named for named, words in forms for word in words}


def english_forms() -> Iterable[tuple[Named, tuple[str, ...]]]:
    """Yields the English words of everything that has a name."""
    for person in PEOPLE:
        yield Named("person", person), (english.name(person),)
    for place in PLACES:
        yield Named("place", place), (place,)
    for thing in THINGS:
        yield Named("thing", thing), (thing,)
    for look in LOOKS:
        yield Named("look", look), (look,)


def russian_forms() -> Iterable[tuple[Named, tuple[str, ...]]]:
    """Yields the Russian words of everything that has a name, in all cases that occur."""
    for person in PEOPLE:
        name = russian.NAMES[person]
        cases = (name.nominative, name.genitive, name.dative, name.accusative)
        yield Named("person", person), cases
    for place in PLACES:
        phrases = (russian.AT[place], russian.TO[place])
        yield Named("place", place), tuple(phrase.split()[-1] for phrase in phrases)
    for thing in THINGS:
        noun = russian.NOUNS[thing]
        forms = (noun.nominative, noun.accusative, noun.instrumental)
        yield Named("thing", thing), (*forms, russian.capital(noun.nominative))
    for look in LOOKS:
        adjective = russian.ADJECTIVES[look]
        yield (
            Named("look", look),
            (*adjective.nominative, *adjective.accusative, *adjective.instrumental),
        )


def tokens_of_words(tokenizer: Tokenizer, language: Language) -> dict[int, Named]:
    """Returns what each token names that is a whole word, with the space before it."""
    named: dict[int, Named] = {}
    for word, what in words_of(language).items():
        ids = tokenizer.encode(f" {word}")
        if len(ids) == 1:
            named[ids[0]] = what
    return named
