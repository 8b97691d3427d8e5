"""The events of the small world in English words.

Every table has as many wordings as `world.WORDINGS` says. A person is named once and then is "he"
or "she" while the sentences have the same subject: that follows from the state, without chance.
Previous: world.py.  Next: russian.py.
"""

from collections.abc import Callable

from data.tiny_world.world import GIRLS, Event, Language, State, knows_answer, meets, misses

WEATHER = (
    "windy",
    "quiet",
    "sunny",
    "grey",
    "misty",
    "bright",
    "cool",
    "fine",
    "long",
    "rainy",
    "lovely",
    "cloudy",
    "still",
    "fresh",
    "ordinary",
    "mild",
)
SEASONS = ("spring", "summer", "autumn", "winter")
HOURS = ("morning", "day", "evening")

AT = {
    "garden": "in the garden",
    "kitchen": "in the kitchen",
    "attic": "in the attic",
    "barn": "in the barn",
    "cellar": "in the cellar",
    "porch": "on the porch",
    "river": "by the river",
    "meadow": "in the meadow",
    "forest": "in the forest",
    "market": "at the market",
    "mill": "at the mill",
    "bridge": "on the bridge",
    "library": "in the library",
    "yard": "in the yard",
    "hall": "in the hall",
    "bedroom": "in the bedroom",
    "pond": "by the pond",
    "hill": "on the hill",
    "bakery": "in the bakery",
    "workshop": "in the workshop",
}

BEING = (
    "was",
    "was playing",
    "was sitting",
    "was resting",
    "was dreaming",
    "was singing",
    "was dancing",
    "was humming",
    "was thinking",
    "was dozing",
    "was drawing",
    "was reading",
    "was waiting",
    "was whistling",
    "was yawning",
    "was smiling",
)
TOO = ("was {} too.", "was {} as well.", "was also {}.")
KNOWING = ("had seen", "had left", "had hidden")
LYING = ("there was", "lay", "somebody had left")
HOLDING = ("had", "was holding")
WANTING = ("needed", "wanted", "wished for", "hoped to get")
STARTS = ("", "Then ", "Soon ")
GOING = (
    "went",
    "ran",
    "walked",
    "hurried",
    "rushed",
    "skipped",
    "strolled",
    "tiptoed",
    "wandered",
    "marched",
    "raced",
    "came",
)
TAKING = (
    "took",
    "picked up",
    "grabbed",
    "carefully took",
    "gladly took",
    "quickly took",
    "quickly picked up",
    "carefully picked up",
)
GIVING = (
    "gave",
    "handed",
    "gladly gave",
    "passed",
    "gladly handed",
    "kindly gave",
    "kindly handed",
    "carefully passed",
)
REMEMBERING = ("remembered that", "suddenly remembered that", "had not forgotten that")
FULFILLING = (
    "At last {} could {}.",
    "Now {} could {}.",
    "{} was glad to {}.",
    "{} began to {}.",
    "At once {} started to {}.",
    "How {} had longed to {}!",
)

REASONS = {
    "ball": ("to play with the dog", "to play outside", "to learn a new game"),
    "book": ("to read about the sea", "to read a fairy tale", "to look at the pictures"),
    "drum": ("to play a march", "to make some noise", "to play in the band"),
    "lamp": ("to read in bed", "to light the stairs", "to look under the bed"),
    "cup": ("to drink some tea", "to drink warm milk", "to pick berries"),
    "hat": ("to look like a sailor", "to hide from the sun", "to show magic tricks"),
    "basket": ("to gather apples", "to pick mushrooms", "to pack a picnic"),
    "doll": ("to play at school", "to play house", "to sew a dress"),
    "boat": ("to play at pirates", "to sail on the pond", "to play captain"),
    "umbrella": ("to walk in the rain", "to stay dry", "to dance in the puddles"),
    "blanket": ("to build a tent", "to keep warm", "to lie on the grass"),
    "bell": ("to call everyone to supper", "to play at school", "to ring for the cat"),
    "bucket": ("to water the flowers", "to build a sand castle", "to fetch some water"),
    "mirror": ("to catch sunbeams", "to make faces", "to comb the cat"),
    "rope": ("to make a swing", "to skip outside", "to climb a tree"),
    "pencil": ("to draw a horse", "to write a letter", "to draw a map"),
}

SCENERY = (
    "Somewhere a dog barked.",
    "A bird was singing.",
    "A clock struck.",
    "Far away a train whistled.",
    "A cat ran past.",
    "The wind played in the trees.",
    "A cloud hid the sun.",
    "Somebody laughed far away.",
    "A pine cone fell from a tree.",
    "It smelled of warm bread.",
    "A mouse looked out and hid again.",
    "Two crows began to quarrel.",
    "A door banged somewhere.",
    "An old horse went by.",
    "For a while it was very quiet.",
    "The sun came out again.",
    "A small bird sat down on the roof.",
    "The roosters were calling.",
    "Music came from the village.",
    "The cat yawned.",
    "The dog was chasing its tail.",
    "A squirrel jumped from tree to tree.",
    "Grandmother was humming a song.",
    "Grandfather was chopping wood.",
    "The neighbours were baking pies.",
    "Smoke rose over the roofs.",
    "It smelled of pine trees.",
    "A cow mooed.",
    "Two boys were flying a kite.",
    "Someone was playing the fiddle.",
    "Sparrows were pecking crumbs.",
    "The dog fell asleep.",
    "A hen laid an egg.",
    "White clouds were sailing by.",
    "A bell rang in the village.",
    "It grew a little warmer.",
)
HOPE = (
    "sighed.",
    "was a little sad.",
    "thought hard.",
    "stayed cheerful.",
    "frowned.",
    "was full of hope.",
    "counted to ten.",
    "looked at the sky.",
    "kept thinking about it.",
    "shook {} head.",
    "took a deep breath.",
    "hoped for some luck.",
)
JOY = (
    "smiled.",
    "laughed.",
    "hummed a song.",
    "was very happy.",
    "clapped {} hands.",
    "whistled.",
    "was in a good mood.",
    "danced a little.",
    "jumped for joy.",
    "winked at the cat.",
    "felt brave.",
    "had a good feeling.",
)
EVENING = (
    "At bedtime",
    "When the stars came out,",
    "In the end",
    "At the end of the day",
    "Before supper",
    "When it got dark,",
    "When night fell,",
    "After all that",
    "When the moon rose,",
    "That night",
)
HAPPY = (
    "It was a good day.",
    "Everyone was happy.",
    "What a fine day it was!",
    "All was well.",
    "Nobody wanted to go to bed.",
    "They often talked about that day.",
    "It is good to have friends.",
    "And that is the whole story.",
    "They all slept well.",
    "Who would have thought it!",
    "Good things do happen.",
    "The cat was pleased too.",
)
SAD = (
    "Tomorrow they would try again.",
    "But tomorrow is another day.",
    "It was a pity.",
    "Not every wish comes true.",
    "Well, that happens.",
    "Nobody cried.",
    "Perhaps it would work out tomorrow.",
    "Some stories end like that.",
    "Next time they would be luckier.",
    "They were not sad for long.",
)


def name(person: str) -> str:
    """Returns the name of a person."""
    return person.capitalize()


def subject(state: State, person: str) -> str:
    """Returns the subject of a sentence: a pronoun if the last sentence had the same subject."""
    if person != state.subject:
        return name(person)
    return "She" if person in GIRLS else "He"


def inside(state: State, person: str) -> str:
    """Returns the same in the middle of a sentence, without a capital for the pronoun."""
    return subject(state, person).lower() if person == state.subject else name(person)


def pick(person: str, girl: str, boy: str) -> str:
    """Returns the word for a girl or the one for a boy."""
    return girl if person in GIRLS else boy


def full(state: State) -> str:
    """Returns the thing with its look: the old ball."""
    return f"the {state.look} {state.thing}"


def a(words: str) -> str:
    """Returns words with the indefinite article: an old ball."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def capital(text: str) -> str:
    """Returns a text with a capital first letter."""
    return text[0].upper() + text[1:]


def tell_place(state: State, event: Event) -> str:
    return f"{BEING[event.wording]} {AT[event.where]}."


def tell_too(state: State, event: Event) -> str:
    return TOO[event.wording].format(AT[event.where])


def tell_spot(state: State, event: Event) -> str:
    if event.kind == "lies":
        return f"{capital(AT[event.where])} {LYING[event.wording]}"
    if event.kind == "knows":
        who = inside(state, event.who)
        return f"{capital(AT[event.where])} {who} {KNOWING[event.wording]}"
    return f"{subject(state, event.where)} {HOLDING[event.wording]}"


def tell_thing(state: State, event: Event) -> str:
    return a(f"{event.look} {event.what}.")


def tell_want(state: State, event: Event) -> str:
    return f"{subject(state, event.who)} {WANTING[event.wording]} {full(state)}"


def tell_reason(state: State, event: Event) -> str:
    return REASONS[state.thing][event.wording] + "."


def tell_go(state: State, event: Event) -> str:
    start, going = divmod(event.wording, len(GOING))
    way = f"{STARTS[start]}{name(event.who)} {GOING[going]} to the {event.where}"
    here = capital(AT[event.where])
    seen = in_sight(state, event)
    if not seen:
        nobody = f"no {state.thing}" if misses(state, event) else "nobody"
        return f"{way}. {here} there was {nobody}."
    return f"{way}. {here} {pick(event.who, 'she', 'he')} saw {seen}."


def in_sight(state: State, event: Event) -> str:
    """Returns whom and what the person of an event of going will see at that place, or ""."""
    other, thing = meets(state, event), f"the {state.thing}"
    if not other:
        return thing if state.has(event.where) else ""
    if state.has(other):
        return f"{name(other)} with {thing}"
    return f"{name(other)} and {thing}" if state.has(event.where) else name(other)


def tell_take(state: State, event: Event) -> str:
    return f"{subject(state, event.who)} {TAKING[event.wording]} the {event.what}."


def tell_give(state: State, event: Event) -> str:
    given = f"{GIVING[event.wording]} {name(event.where)} the {event.what}."
    return f'{subject(state, event.who)} {given} "Thank you!" said {name(event.where)}.'


def tell_ask(state: State, event: Event) -> str:
    question = (
        f"Where is the {event.what}?",
        f"Have you seen the {event.what}?",
        f"Who has seen the {event.what}?",
    )[event.wording]
    place = knows_answer(state, event)
    unknown = ("I do not know", "I have not", "Not I")[event.wording]
    answer = capital(AT[place]) if place else unknown
    return f'"{question}" asked {name(event.who)}. "{answer}," said {name(event.where)}.'


def tell_beg(state: State, event: Event) -> str:
    request = (
        f"May I have the {event.what}?",
        f"Please give me the {event.what}!",
        f"I need the {event.what}.",
    )[event.wording]
    said = "asked" if request.endswith("?") else "said"
    return f'"{request}" {said} {name(event.who)}.'.replace('."', ',"')


def tell_tell(state: State, event: Event) -> str:
    place = AT[state.believed_place(event.who, event.what)]
    hint = (
        f"told {name(event.where)} that the {event.what} was {place}.",
        f"let {name(event.where)} know that the {event.what} was {place}.",
        f"whispered to {name(event.where)} that the {event.what} was {place}.",
    )[event.wording]
    return f"{subject(state, event.who)} {hint}"


def tell_promise(state: State, event: Event) -> str:
    bring = f"bring {name(event.where)} the {event.what}."
    verb = ("promised to", "gave {} word to", "offered to")[event.wording]
    verb = verb.format(pick(event.who, "her", "his"))
    return f"{subject(state, event.who)} {verb} {bring}"


def tell_remember(state: State, event: Event) -> str:
    memory = f"{REMEMBERING[event.wording]} the {event.what} was {AT[event.where]}."
    return f"{subject(state, event.who)} {memory}"


def tell_greet(state: State, event: Event) -> str:
    friend = name(event.where)
    words = (
        f"Hello, {friend}!",
        f"Good to see you, {friend}!",
        f"Here you are, {friend}!",
        f"I was looking for you, {friend}!",
    )[event.wording]
    return f'"{words}" {pick(event.who, "she", "he")} said.'


def tell_hope(state: State, event: Event) -> str:
    own = pick(event.who, "her", "his")
    return f"{subject(state, event.who)} {HOPE[event.wording].format(own)}"


def tell_joy(state: State, event: Event) -> str:
    own = pick(event.who, "her", "his")
    return f"{subject(state, event.who)} {JOY[event.wording].format(own)}"


def tell_fulfil(state: State, event: Event) -> str:
    reason = REASONS[event.what][state.reason].removeprefix("to ")
    frame = FULFILLING[event.wording]
    who = subject(state, event.who) if frame.startswith("{") else inside(state, event.who)
    return frame.format(who, reason)


def whereabouts(state: State, person: str, where: str) -> str:
    """Returns where a person is, and with the thing if the person holds it."""
    return f"{name(person)} was {where}" + (f" with {full(state)}" if state.has(person) else "")


def tell_evening(state: State, event: Event) -> str:
    first, second = state.people
    there = "there too" if state.together() else AT[state.where[second]]
    text = (
        f"{EVENING[event.wording]} {whereabouts(state, first, AT[state.where[first]])}, "
        f"and {whereabouts(state, second, there)}."
    )
    if state.where[state.thing] in AT:
        text += f" The {state.thing} was still {AT[state.where[state.thing]]}."
    if state.promiser:
        kept = "had kept" if state.kept else "had not kept"
        text += f" {name(state.promiser)} {kept} {pick(state.promiser, 'her', 'his')} promise."
    return text


# for each kind of event the function that returns its text, given the state before it
TELLINGS: dict[str, Callable[[State, Event], str]] = {
    "weather": lambda state, event: f"One {WEATHER[event.wording]}",
    "season": lambda state, event: SEASONS[event.wording],
    "hour": lambda state, event: HOURS[event.wording],
    "person": lambda state, event: name(event.who),
    "place": tell_place,
    "too": tell_too,
    "lies": tell_spot,
    "knows": tell_spot,
    "has": tell_spot,
    "thing": tell_thing,
    "want": tell_want,
    "reason": tell_reason,
    "go": tell_go,
    "take": tell_take,
    "give": tell_give,
    "ask": tell_ask,
    "beg": tell_beg,
    "tell": tell_tell,
    "promise": tell_promise,
    "remember": tell_remember,
    "greet": tell_greet,
    "scenery": lambda state, event: SCENERY[event.wording],
    "hope": tell_hope,
    "joy": tell_joy,
    "fulfil": tell_fulfil,
    "evening": tell_evening,
    "happy end": lambda state, event: HAPPY[event.wording],
    "sad end": lambda state, event: SAD[event.wording],
}


def tell(state: State, event: Event) -> str:
    """Returns the English text of an event, given the state before it."""
    return TELLINGS[event.kind](state, event)


ENGLISH = Language("tiny-world", tell)
