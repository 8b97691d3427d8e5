"""The events of the small world in Russian words.

Cases, genders and agreement come from tables, not from rules. Every table has as many wordings as
`world.WORDINGS` says. A form that depends on gender is written out for each: she, he, and it for
things.
Previous: english.py.  Next: stories.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from data.tiny_world.world import GIRLS, Event, Language, State, knows_answer, meets, misses


@dataclass(frozen=True)
class Name:
    """The cases of a person's name: кто, у кого, кому, кого."""

    nominative: str
    genitive: str
    dative: str
    accusative: str


@dataclass(frozen=True)
class Noun:
    """The gender and the cases of a thing: что, вижу что, с чем. All things are inanimate."""

    gender: int  # 0 she, 1 he, 2 it: the place of its form in every table below
    nominative: str
    accusative: str
    instrumental: str


@dataclass(frozen=True)
class Adjective:
    """The cases of a look, each in the genders of `Noun`: она, он, оно.

    Masculine and neuter accusatives are nominatives, because things are inanimate.
    """

    nominative: tuple[str, str, str]
    accusative: tuple[str, str, str]
    instrumental: tuple[str, str, str]


NAMES = {
    "anna": Name("Аня", "Ани", "Ане", "Аню"),
    "vera": Name("Вера", "Веры", "Вере", "Веру"),
    "kate": Name("Катя", "Кати", "Кате", "Катю"),
    "nina": Name("Нина", "Нины", "Нине", "Нину"),
    "mary": Name("Маша", "Маши", "Маше", "Машу"),
    "alice": Name("Алиса", "Алисы", "Алисе", "Алису"),
    "peter": Name("Петя", "Пети", "Пете", "Петю"),
    "mike": Name("Миша", "Миши", "Мише", "Мишу"),
    "nick": Name("Коля", "Коли", "Коле", "Колю"),
    "max": Name("Максим", "Максима", "Максиму", "Максима"),
    "anton": Name("Антон", "Антона", "Антону", "Антона"),
    "leo": Name("Лёва", "Лёвы", "Лёве", "Лёву"),
}
NOUNS = {
    "ball": Noun(1, "мяч", "мяч", "мячом"),
    "book": Noun(0, "книга", "книгу", "книгой"),
    "drum": Noun(1, "барабан", "барабан", "барабаном"),
    "lamp": Noun(0, "лампа", "лампу", "лампой"),
    "cup": Noun(0, "чашка", "чашку", "чашкой"),
    "hat": Noun(0, "шляпа", "шляпу", "шляпой"),
    "basket": Noun(0, "корзинка", "корзинку", "корзинкой"),
    "doll": Noun(0, "кукла", "куклу", "куклой"),
    "boat": Noun(1, "кораблик", "кораблик", "корабликом"),
    "umbrella": Noun(1, "зонтик", "зонтик", "зонтиком"),
    "blanket": Noun(2, "одеяло", "одеяло", "одеялом"),
    "bell": Noun(1, "колокольчик", "колокольчик", "колокольчиком"),
    "bucket": Noun(2, "ведёрко", "ведёрко", "ведёрком"),
    "mirror": Noun(2, "зеркало", "зеркало", "зеркалом"),
    "rope": Noun(0, "верёвка", "верёвку", "верёвкой"),
    "pencil": Noun(1, "карандаш", "карандаш", "карандашом"),
}
ADJECTIVES = {
    "red": Adjective(
        ("красная", "красный", "красное"),
        ("красную", "красный", "красное"),
        ("красной", "красным", "красным"),
    ),
    "blue": Adjective(
        ("синяя", "синий", "синее"), ("синюю", "синий", "синее"), ("синей", "синим", "синим")
    ),
    "green": Adjective(
        ("зелёная", "зелёный", "зелёное"),
        ("зелёную", "зелёный", "зелёное"),
        ("зелёной", "зелёным", "зелёным"),
    ),
    "yellow": Adjective(
        ("жёлтая", "жёлтый", "жёлтое"),
        ("жёлтую", "жёлтый", "жёлтое"),
        ("жёлтой", "жёлтым", "жёлтым"),
    ),
    "white": Adjective(
        ("белая", "белый", "белое"), ("белую", "белый", "белое"), ("белой", "белым", "белым")
    ),
    "old": Adjective(
        ("старая", "старый", "старое"),
        ("старую", "старый", "старое"),
        ("старой", "старым", "старым"),
    ),
    "new": Adjective(
        ("новая", "новый", "новое"), ("новую", "новый", "новое"), ("новой", "новым", "новым")
    ),
    "big": Adjective(
        ("большая", "большой", "большое"),
        ("большую", "большой", "большое"),
        ("большой", "большим", "большим"),
    ),
    "little": Adjective(
        ("маленькая", "маленький", "маленькое"),
        ("маленькую", "маленький", "маленькое"),
        ("маленькой", "маленьким", "маленьким"),
    ),
    "pretty": Adjective(
        ("красивая", "красивый", "красивое"),
        ("красивую", "красивый", "красивое"),
        ("красивой", "красивым", "красивым"),
    ),
}
AT = {
    "garden": "в саду",
    "kitchen": "на кухне",
    "attic": "на чердаке",
    "barn": "в сарае",
    "cellar": "в подвале",
    "porch": "на крыльце",
    "river": "у реки",
    "meadow": "на лугу",
    "forest": "в лесу",
    "market": "на рынке",
    "mill": "на мельнице",
    "bridge": "на мосту",
    "library": "в библиотеке",
    "yard": "во дворе",
    "hall": "в прихожей",
    "bedroom": "в спальне",
    "pond": "у пруда",
    "hill": "на холме",
    "bakery": "в пекарне",
    "workshop": "в мастерской",
}
TO = {
    "garden": "в сад",
    "kitchen": "на кухню",
    "attic": "на чердак",
    "barn": "в сарай",
    "cellar": "в подвал",
    "porch": "на крыльцо",
    "river": "к реке",
    "meadow": "на луг",
    "forest": "в лес",
    "market": "на рынок",
    "mill": "на мельницу",
    "bridge": "на мост",
    "library": "в библиотеку",
    "yard": "во двор",
    "hall": "в прихожую",
    "bedroom": "в спальню",
    "pond": "к пруду",
    "hill": "на холм",
    "bakery": "в пекарню",
    "workshop": "в мастерскую",
}

WEATHER = (
    "ветреным",
    "тихим",
    "солнечным",
    "серым",
    "туманным",
    "ясным",
    "прохладным",
    "погожим",
    "долгим",
    "дождливым",
    "чудесным",
    "пасмурным",
    "безветренным",
    "свежим",
    "обычным",
    "славным",
)
SEASONS = ("весенним", "летним", "осенним", "зимним")
HOURS = ("утром", "днём", "вечером")

# Of persons: she, he.
Forms = tuple[str, str]
BEING: tuple[Forms, ...] = (
    ("была", "был"),
    ("играла", "играл"),
    ("сидела", "сидел"),
    ("отдыхала", "отдыхал"),
    ("мечтала", "мечтал"),
    ("пела", "пел"),
    ("танцевала", "танцевал"),
    ("напевала", "напевал"),
    ("размышляла", "размышлял"),
    ("дремала", "дремал"),
    ("рисовала", "рисовал"),
    ("читала", "читал"),
    ("скучала", "скучал"),
    ("насвистывала", "насвистывал"),
    ("зевала", "зевал"),
    ("улыбалась", "улыбался"),
)
TOO: tuple[Forms, ...] = (
    ("тоже была {}.", "тоже был {}."),
    ("тоже сидела {}.", "тоже сидел {}."),
    ("тоже оказалась {}.", "тоже оказался {}."),
)
KNOWING: tuple[Forms, ...] = (("видела", "видел"), ("оставила", "оставил"), ("спрятала", "спрятал"))
STARTS = ("", "Потом ", "Вскоре ")
GOING: tuple[Forms, ...] = (
    ("пошла", "пошёл"),
    ("побежала", "побежал"),
    ("отправилась", "отправился"),
    ("поспешила", "поспешил"),
    ("помчалась", "помчался"),
    ("поскакала", "поскакал"),
    ("побрела", "побрёл"),
    ("прокралась", "прокрался"),
    ("пришла", "пришёл"),
    ("зашагала", "зашагал"),
    ("прибежала", "прибежал"),
    ("направилась", "направился"),
)
TAKING: tuple[Forms, ...] = (
    ("взяла", "взял"),
    ("подняла", "поднял"),
    ("схватила", "схватил"),
    ("осторожно взяла", "осторожно взял"),
    ("с радостью взяла", "с радостью взял"),
    ("быстро взяла", "быстро взял"),
    ("быстро подняла", "быстро поднял"),
    ("осторожно подняла", "осторожно поднял"),
)
GIVING: tuple[Forms, ...] = (
    ("дала", "дал"),
    ("отдала", "отдал"),
    ("протянула", "протянул"),
    ("вручила", "вручил"),
    ("с радостью дала", "с радостью дал"),
    ("сразу дала", "сразу дал"),
    ("сразу отдала", "сразу отдал"),
    ("с радостью вручила", "с радостью вручил"),
)
TELLING: tuple[Forms, ...] = (
    ("сказала", "сказал"),
    ("объяснила", "объяснил"),
    ("шепнула", "шепнул"),
)
PROMISING: tuple[Forms, ...] = (
    ("пообещала", "пообещал"),
    ("дала слово", "дал слово"),
    ("вызвалась", "вызвался"),
)
REMEMBERING: tuple[Forms, ...] = (
    ("вспомнила", "вспомнил"),
    ("вдруг вспомнила", "вдруг вспомнил"),
    ("не забыла", "не забыл"),
)
HOPE: tuple[Forms, ...] = (
    ("вздохнула.", "вздохнул."),
    ("немного загрустила.", "немного загрустил."),
    ("крепко задумалась.", "крепко задумался."),
    ("не унывала.", "не унывал."),
    ("нахмурилась.", "нахмурился."),
    ("не теряла надежды.", "не терял надежды."),
    ("сосчитала до десяти.", "сосчитал до десяти."),
    ("посмотрела на небо.", "посмотрел на небо."),
    ("всё думала об этом.", "всё думал об этом."),
    ("покачала головой.", "покачал головой."),
    ("набралась терпения.", "набрался терпения."),
    ("надеялась на удачу.", "надеялся на удачу."),
)
JOY: tuple[Forms, ...] = (
    ("улыбнулась.", "улыбнулся."),
    ("засмеялась.", "засмеялся."),
    ("замурлыкала песенку.", "замурлыкал песенку."),
    ("очень обрадовалась.", "очень обрадовался."),
    ("захлопала в ладоши.", "захлопал в ладоши."),
    ("засвистела.", "засвистел."),
    ("была в хорошем настроении.", "был в хорошем настроении."),
    ("немного потанцевала.", "немного потанцевал."),
    ("запрыгала от радости.", "запрыгал от радости."),
    ("подмигнула кошке.", "подмигнул кошке."),
    ("расхрабрилась.", "расхрабрился."),
    ("сияла от счастья.", "сиял от счастья."),
)

FULFILLING: tuple[Forms, ...] = (
    ("Наконец {} смогла {}.", "Наконец {} смог {}."),
    ("Теперь {} могла {}.", "Теперь {} мог {}."),
    ("{} была рада {}.", "{} был рад {}."),
    ("{} тут же решила {}.", "{} тут же решил {}."),
    ("И вот {} собралась {}.", "И вот {} собрался {}."),
    ("Как же {} мечтала {}!", "Как же {} мечтал {}!"),
)

REASONS = {
    "ball": ("поиграть с собакой", "поиграть во дворе", "научиться новой игре"),
    "book": ("почитать про море", "почитать сказку", "посмотреть картинки"),
    "drum": ("сыграть марш", "немного пошуметь", "выступить с оркестром"),
    "lamp": ("почитать перед сном", "осветить лестницу", "заглянуть под кровать"),
    "cup": ("выпить чаю", "выпить тёплого молока", "набрать ягод"),
    "hat": ("нарядиться моряком", "спрятаться от солнца", "показать фокус"),
    "basket": ("набрать яблок", "набрать грибов", "устроить пикник"),
    "doll": ("поиграть в школу", "поиграть в гости", "поучиться шить"),
    "boat": ("поиграть в пиратов", "пустить его по ручью", "поиграть в капитана"),
    "umbrella": ("погулять под дождём", "выйти в дождь", "потанцевать в лужах"),
    "blanket": ("построить шалаш", "согреться", "полежать на траве"),
    "bell": ("позвать всех к ужину", "поиграть в школу", "позвать кошку"),
    "bucket": ("полить цветы", "построить замок из песка", "принести воды"),
    "mirror": ("пустить солнечного зайчика", "скорчить рожицу", "причесать кошку"),
    "rope": ("сделать качели", "попрыгать во дворе", "залезть на дерево"),
    "pencil": ("нарисовать лошадь", "написать письмо", "нарисовать карту"),
}

SCENERY = (
    "Где-то залаяла собака.",
    "Запела птица.",
    "Пробили часы.",
    "Вдали загудел поезд.",
    "Мимо пробежала кошка.",
    "Ветер качал деревья.",
    "Облако закрыло солнце.",
    "Вдалеке кто-то засмеялся.",
    "С дерева упала шишка.",
    "Пахло тёплым хлебом.",
    "Выглянула мышка и снова спряталась.",
    "Две вороны затеяли ссору.",
    "Где-то хлопнула дверь.",
    "Мимо прошла старая лошадь.",
    "На минуту стало очень тихо.",
    "Снова выглянуло солнце.",
    "Маленькая птичка села на крышу.",
    "Кричали петухи.",
    "Из деревни доносилась музыка.",
    "Кошка зевнула.",
    "Собака гонялась за своим хвостом.",
    "Белка прыгала с дерева на дерево.",
    "Бабушка напевала песню.",
    "Дедушка колол дрова.",
    "Соседи пекли пироги.",
    "Над крышами поднимался дым.",
    "Пахло соснами.",
    "Замычала корова.",
    "Два мальчика запускали змея.",
    "Кто-то играл на скрипке.",
    "Воробьи клевали крошки.",
    "Собака уснула.",
    "Курица снесла яйцо.",
    "По небу плыли белые облака.",
    "В деревне зазвонил колокол.",
    "Стало немного теплее.",
)
EVENING = (
    "Перед сном",
    "Когда зажглись звёзды,",
    "В конце концов",
    "К концу дня",
    "Перед ужином",
    "Когда стемнело,",
    "Когда пришла пора спать,",
    "После всего этого",
    "Когда взошла луна,",
    "В ту ночь",
)
HAPPY = (
    "Это был хороший день.",
    "Все были счастливы.",
    "Какой чудесный вышел день!",
    "Всё было хорошо.",
    "Никому не хотелось спать.",
    "Об этом дне потом часто вспоминали.",
    "Хорошо, когда есть друг.",
    "Вот и вся история.",
    "Спалось всем сладко.",
    "Кто бы мог подумать!",
    "Бывают же удачные дни.",
    "Даже кошка была довольна.",
)
SAD = (
    "Завтра можно попробовать ещё раз.",
    "Но завтра будет новый день.",
    "Было немного жаль.",
    "Не всякое желание сбывается сразу.",
    "Что ж, так бывает.",
    "Никто не плакал.",
    "Может быть, завтра повезёт.",
    "Бывают и такие истории.",
    "В другой раз повезёт больше.",
    "Но никто не унывал.",
)

SAID = ("сказала", "сказал")
WAS = ("была", "был", "было")
LAY = ("лежала", "лежал", "лежало")
WAS_NEEDED = ("была нужна", "был нужен", "было нужно")
BECAME_NEEDED = ("понадобилась", "понадобился", "понадобилось")
NEEDED = ("нужна", "нужен", "нужно")
VANISHED = ("пропала", "пропал", "пропало")
IT = ("она", "он", "оно")


def gender(person: str) -> int:
    """Returns the position of a person's form in every table: 0 she, 1 he."""
    return person not in GIRLS


def name(person: str) -> str:
    """Returns a name in the nominative: кто."""
    return NAMES[person].nominative


def subject(state: State, person: str) -> str:
    """Returns the subject of a sentence: a pronoun if the last sentence had the same subject."""
    return name(person) if person != state.subject else ("Она", "Он")[gender(person)]


def inside(state: State, person: str) -> str:
    """Returns the same in the middle of a sentence, without a capital for the pronoun."""
    return subject(state, person).lower() if person == state.subject else name(person)


def to_subject(state: State, person: str) -> str:
    """Returns the subject of a sentence in the dative: кому."""
    return NAMES[person].dative if person != state.subject else ("Ей", "Ему")[gender(person)]


def nominative(thing: str, look: str) -> str:
    """Returns a thing with its look in the nominative: красная чашка."""
    noun = NOUNS[thing]
    return f"{ADJECTIVES[look].nominative[noun.gender]} {noun.nominative}"


def accusative(thing: str, look: str) -> str:
    """Returns a thing with its look in the accusative: красную чашку."""
    noun = NOUNS[thing]
    return f"{ADJECTIVES[look].accusative[noun.gender]} {noun.accusative}"


def holding(thing: str, look: str) -> str:
    """Returns "with the thing": с красной чашкой, со старым мячом."""
    noun, preposition = NOUNS[thing], "со" if look == "old" else "с"
    return f"{preposition} {ADJECTIVES[look].instrumental[noun.gender]} {noun.instrumental}"


def capital(text: str) -> str:
    """Returns a text with a capital first letter."""
    return text[0].upper() + text[1:]


def tell_place(state: State, event: Event) -> str:
    return f"{BEING[event.wording][gender(event.who)]} {AT[event.where]}."


def tell_too(state: State, event: Event) -> str:
    return TOO[event.wording][gender(event.who)].format(AT[event.where])


def tell_lies(state: State, event: Event) -> str:
    place = AT[event.where]
    return (capital(place), f"Где-то {place}", f"Кто-то оставил {place}")[event.wording]


def tell_knows(state: State, event: Event) -> str:
    knew = KNOWING[event.wording][gender(event.who)]
    return f"{subject(state, event.who)} {knew} {AT[event.where]}"


def tell_has(state: State, event: Event) -> str:
    held = ("держала", "держал")[gender(event.where)]
    owner = NAMES[event.where].genitive
    if event.where == state.subject:
        owner = ("неё", "него")[gender(event.where)]
    return (f"У {owner}", f"{subject(state, event.where)} {held} в руках")[event.wording]


def tell_thing(state: State, event: Event) -> str:
    """The words before need a verb and the nominative, or the accusative."""
    verbs = {("lies", 0): WAS, ("lies", 1): LAY, ("has", 0): WAS}
    verb = verbs.get((state.spot.kind, state.spot.wording))
    if verb is None:
        return f"{accusative(event.what, event.look)}."
    return f"{verb[NOUNS[event.what].gender]} {nominative(event.what, event.look)}."


def tell_want(state: State, event: Event) -> str:
    noun, who = NOUNS[event.what], to_subject(state, event.who)
    wanted = ("хотела", "хотел")[gender(event.who)]
    named, taken = nominative(event.what, state.look), accusative(event.what, state.look)
    return (
        f"{who} {WAS_NEEDED[noun.gender]} {named},",
        f"{who} {BECAME_NEEDED[noun.gender]} {named},",
        f"{who} хотелось взять {taken},",
        f"{subject(state, event.who)} {wanted} взять {taken},",
    )[event.wording]


def tell_reason(state: State, event: Event) -> str:
    return f"чтобы {REASONS[state.thing][event.wording]}."


def tell_go(state: State, event: Event) -> str:
    start, going = divmod(event.wording, len(GOING))
    went = GOING[going][gender(event.who)]
    way = f"{STARTS[start]}{name(event.who)} {went} {TO[event.where]}"
    here = capital(AT[event.where])
    seen, noun = in_sight(state, event), NOUNS[state.thing]
    if seen:
        return f"{way}. {here} {('она увидела', 'он увидел')[gender(event.who)]} {seen}."
    if misses(state, event):
        return f"{way}. {here} было пусто: {noun.nominative} {VANISHED[noun.gender]}."
    return f"{way}. {here} никого не было."


def in_sight(state: State, event: Event) -> str:
    """Returns whom and what the person of an event of going will see there, or "": кого, что."""
    other, thing = meets(state, event), NOUNS[state.thing]
    if not other:
        return thing.accusative if state.has(event.where) else ""
    who = NAMES[other].accusative
    if state.has(other):
        return f"{who} с {thing.instrumental}"
    return f"{who} и {thing.accusative}" if state.has(event.where) else who


def tell_take(state: State, event: Event) -> str:
    took = TAKING[event.wording][gender(event.who)]
    return f"{subject(state, event.who)} {took} {NOUNS[event.what].accusative}."


def tell_give(state: State, event: Event) -> str:
    gave, receiver = GIVING[event.wording][gender(event.who)], NAMES[event.where]
    thanks = f"«Спасибо!» — {SAID[gender(event.where)]} {receiver.nominative}."
    thing = NOUNS[event.what].accusative
    return f"{subject(state, event.who)} {gave} {receiver.dative} {thing}. {thanks}"


def tell_ask(state: State, event: Event) -> str:
    noun, place = NOUNS[event.what], knows_answer(state, event)
    seen = ("видела", "видел")[gender(event.where)]
    question = (
        f"Где {noun.nominative}?",
        f"Ты не {seen} {noun.accusative}?",
        f"Кто видел {noun.accusative}?",
    )[event.wording]
    unknown = ("Не знаю", f"Я не {seen}", "Только не я")[event.wording]
    answer = f"{capital(IT[noun.gender])} {AT[place]}" if place else unknown
    asked = f"{('спросила', 'спросил')[gender(event.who)]} {name(event.who)}"
    answered = f"{('ответила', 'ответил')[gender(event.where)]} {name(event.where)}"
    return f"«{question}» — {asked}. «{answer}», — {answered}."


def tell_beg(state: State, event: Event) -> str:
    noun, form = NOUNS[event.what], gender(event.who)
    asked, begged = ("спросила", "спросил")[form], ("попросила", "попросил")[form]
    return (
        f"«Можно мне взять {noun.accusative}?» — {asked} {name(event.who)}.",
        f"«Дай мне, пожалуйста, {noun.accusative}!» — {begged} {name(event.who)}.",
        f"«Мне {NEEDED[noun.gender]} {noun.nominative}», — {SAID[form]} {name(event.who)}.",
    )[event.wording]


def tell_tell(state: State, event: Event) -> str:
    said = f"{TELLING[event.wording][gender(event.who)]} {NAMES[event.where].dative}"
    place = AT[state.believed_place(event.who, event.what)]
    return f"{subject(state, event.who)} {said}, что {NOUNS[event.what].nominative} {place}."


def tell_promise(state: State, event: Event) -> str:
    promised = PROMISING[event.wording][gender(event.who)]
    gift = f"{NAMES[event.where].dative} {NOUNS[event.what].accusative}"
    return f"{subject(state, event.who)} {promised} принести {gift}."


def tell_remember(state: State, event: Event) -> str:
    remembered = REMEMBERING[event.wording][gender(event.who)]
    thing = f"{NOUNS[event.what].nominative} {AT[event.where]}"
    return f"{subject(state, event.who)} {remembered}, что {thing}."


def tell_greet(state: State, event: Event) -> str:
    friend = name(event.where)
    words = (
        f"Привет, {friend}!",
        f"Здравствуй, {friend}!",
        f"Вот ты где, {friend}!",
        f"А я тебя ищу, {friend}!",
    )[event.wording]
    return f"«{words}» — {('сказала она', 'сказал он')[gender(event.who)]}."


def tell_mood(state: State, event: Event) -> str:
    moods = HOPE if event.kind == "hope" else JOY
    return f"{subject(state, event.who)} {moods[event.wording][gender(event.who)]}"


def tell_fulfil(state: State, event: Event) -> str:
    reason = REASONS[event.what][state.reason]
    frame = FULFILLING[event.wording][gender(event.who)]
    who = subject(state, event.who) if frame.startswith("{") else inside(state, event.who)
    return frame.format(who, reason)


def whereabouts(state: State, person: str, where: str) -> str:
    """Returns where a person is, and with the thing if the person holds it."""
    held = f" {holding(state.thing, state.look)}" if state.has(person) else ""
    return f"{name(person)} {WAS[gender(person)]} {where}{held}"


def tell_evening(state: State, event: Event) -> str:
    first, second = state.people
    joint, place = (", и", "там же") if state.together() else (", а", AT[state.where[second]])
    text = (
        f"{EVENING[event.wording]} {whereabouts(state, first, AT[state.where[first]])}"
        f"{joint} {whereabouts(state, second, place)}."
    )
    if state.where[state.thing] in AT:
        noun = NOUNS[state.thing]
        was = f"всё ещё {WAS[noun.gender]} {AT[state.where[state.thing]]}"
        text += f" {capital(noun.nominative)} {was}."
    if state.promiser:
        kept = (
            ("сдержала", "сдержал") if state.kept else ("не успела сдержать", "не успел сдержать")
        )
        text += f" {name(state.promiser)} {kept[gender(state.promiser)]} слово."
    return text


# for each kind of event the function that returns its text, given the state before it
TELLINGS: dict[str, Callable[[State, Event], str]] = {
    "weather": lambda state, event: f"Однажды {WEATHER[event.wording]}",
    "season": lambda state, event: SEASONS[event.wording],
    "hour": lambda state, event: HOURS[event.wording],
    "person": lambda state, event: name(event.who),
    "place": tell_place,
    "too": tell_too,
    "lies": tell_lies,
    "knows": tell_knows,
    "has": tell_has,
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
    "hope": tell_mood,
    "joy": tell_mood,
    "fulfil": tell_fulfil,
    "evening": tell_evening,
    "happy end": lambda state, event: HAPPY[event.wording],
    "sad end": lambda state, event: SAD[event.wording],
}


def tell(state: State, event: Event) -> str:
    """Returns the Russian text of an event, given the state before it."""
    return TELLINGS[event.kind](state, event)


RUSSIAN = Language("tiny-world-ru", tell)
