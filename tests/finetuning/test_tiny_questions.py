"""The questions about stories: answers read back from the text, balance, nothing held out leaks."""

import random
import re
from collections import Counter, defaultdict
from itertools import islice, product
from pathlib import Path

import pytest
from oracles.story_reader import Reading, english_words, russian_words

from data.tiny_world import english, russian
from data.tiny_world.stories import LANGUAGES, read_story, stories
from data.tiny_world.world import THINGS, State, happen, possible
from finetuning.chat_format import encode_dialogue, require_turns
from finetuning.tiny_questions.baselines import RULES, baselines, by_kind
from finetuning.tiny_questions.dialogues import OF_THINGS, TASKS, Example, example, examples
from finetuning.tiny_questions.exam import KINDS_OF_EXAM, PARTS, exam, exam_item, situations
from finetuning.tiny_questions.questions import GROUPS, Answer, Question
from finetuning.tiny_questions.traces import (
    AFTERNOON,
    HELD_OUT_PLACES,
    HELD_OUT_THINGS,
    draw_opening_event,
)
from tokenizer import Tokenizer

BOTH = pytest.mark.parametrize("task", TASKS)
READERS = {"tiny-questions": english_words, "tiny-questions-ru": russian_words}
TABLES = {"tiny-questions": english, "tiny-questions-ru": russian}
WHOLE_STORIES = ("tell", "ending")


def asked(task: str, n: int) -> list[Example]:
    """Training dialogues that end with the answer to a question."""
    drawn = islice(examples(task, "train"), n)
    return [one for one in drawn if one.kind not in WHOLE_STORIES]


@BOTH
def test_a_dialogue_depends_on_its_arguments_alone(task: str) -> None:
    drawn = list(islice(examples(task, "train", seed=1), 20))
    assert [example(task, "train", index, seed=1) for index in reversed(range(20))] == drawn[::-1]
    assert example(task, "validation", 3, seed=1) != drawn[3]
    assert example(task, "train", 3, seed=2) != drawn[3]


@BOTH
def test_users_and_answers_take_turns_and_the_right_answer_is_last(task: str) -> None:
    for drawn in islice(examples(task, "train"), 200):
        require_turns(drawn.dialogue)
        assert drawn.dialogue[-1].content == drawn.answers[0]
        assert drawn.dialogue[-1].is_learned
        assert not set(drawn.answers) & set(drawn.distractors)
        wrong = [m.content for m in drawn.dialogue if m.role == "assistant" and not m.is_learned]
        assert set(wrong) <= set(drawn.distractors)


def test_an_unknown_task_and_split_are_refused() -> None:
    with pytest.raises(ValueError, match="task 'x' is unknown; choose one of tiny-questions"):
        example("x", "train", 0)
    with pytest.raises(ValueError, match="split \\('x'\\) must be one of train, validation"):
        example("tiny-questions", "x", 0)


@BOTH
@pytest.mark.parametrize("part", PARTS)
def test_an_exam_never_changes_and_has_every_kind(task: str, part: str) -> None:
    items = exam(task, 2, part)
    assert items == exam(task, 2, part)
    assert [item.kind for item in items] == [kind for kind in KINDS_OF_EXAM for _ in range(2)]


def test_an_unknown_part_and_situation_of_the_exam_are_refused() -> None:
    with pytest.raises(ValueError, match="part 'x' of the exam is unknown; choose one of seen, "):
        exam("tiny-questions", 1, "x")
    with pytest.raises(ValueError, match="situation 'x' is unknown; choose one of single, several"):
        situations("tiny-questions", "x", 1)


# The answers follow from the text


def require_read_back(task: str, items: list[Example]) -> None:
    """Reads each story by its sentences alone and compares the answer."""
    words, reasons = READERS[task](), TABLES[task].REASONS
    for item in items:
        answer = Reading(words).read(item.story).answer(item.question, reasons)
        if answer.sort == "quote":
            assert item.answers[0].endswith(f"{answer.value}."), item
        else:
            assert answer == item.question.answer, item


@BOTH
def test_a_reader_of_the_text_alone_gives_the_same_answers(task: str) -> None:
    require_read_back(task, [*asked(task, 150), *exam(task, 2), *exam(task, 1, "longer")])


@pytest.mark.slow
@BOTH
def test_a_reader_gives_the_same_answers_to_thousands(task: str) -> None:
    parts = [item for part in PARTS for item in exam(task, 50, part)]
    require_read_back(task, [*asked(task, 6000), *parts])


@BOTH
@pytest.mark.parametrize("situation", WHOLE_STORIES)
def test_a_told_story_is_one_of_the_world_and_about_what_was_asked(
    task: str, situation: str
) -> None:
    for item in situations(task, situation, 20):
        told = read_story(f"{item.story} {item.answers[0]}".strip(), LANGUAGES[TASKS[task].world])
        assert item.question.who in told.state.people and item.question.what == told.state.thing


def test_openings_follow_the_law_of_the_world() -> None:
    """Kinds of event by their weights, each event as likely as the others of its kind."""
    rng, kinds, expected = random.Random(0), Counter[str](), Counter[str]()
    for _ in range(800):
        state = State()
        while state.stage != "middle":
            options = possible(state)
            event = draw_opening_event(rng, state)
            assert any(event in events for _, events in options)
            total = sum(weight for weight, _ in options)
            for weight, events in options:
                expected[events[0].kind] += 1000 * weight // total
            kinds[event.kind] += 1000
            happen(state, event)
    for kind, count in expected.items():  # within four standard deviations of 800 draws
        assert abs(kinds[kind] - count) < 4 * 1000 * (800 / 4) ** 0.5, kind


@BOTH
def test_a_pronoun_stands_for_the_only_one_of_its_gender_so_far(task: str) -> None:
    words = TASKS[task]
    for item in situations(task, "pronoun", 60):
        first, answer, second, _ = [message.content for message in item.dialogue]
        spoken = f"{first.rpartition(chr(10))[2]} {answer}"
        about = item.question.who or item.question.what
        form = item.question.form or item.kind
        asked = [words.ask(item.question, n, about) for n in range(len(words.questions[form]))]
        assert second in asked
        found = {READERS[task]().people.get(word, "") for word in re.findall(r"\w+", spoken)}
        people = found - {""}
        things = {t for t in THINGS if thing_stem(task, t) in spoken.lower()}
        assert about in people | things
        same = [one for one in people | things if words.pronoun(one) == words.pronoun(about)]
        assert same == [about], item.dialogue


def thing_stem(task: str, thing: str) -> str:
    """The letters that all cases of a thing share."""
    return f" {russian.NOUNS[thing].nominative[:-1] if task.endswith('ru') else thing}"


# No rule that does not follow the story gets far


@pytest.mark.slow
@BOTH
def test_no_trivial_rule_is_right_often_in_afternoons(task: str) -> None:
    """Of 500 items of a kind the rules get at most 52, 43 and 41%; of 104, up to 10 points more."""
    items = [item for item in exam(task, 208) if item.law == AFTERNOON]  # 104 of each kind
    right = baselines(items)
    for rule in RULES:
        for kind, share in by_kind(items, right[rule]).items():
            limit = {"who-wants": 0.6, "where-first": 0.5, "before": 0.5}.get(kind, 0.41)
            assert share <= limit, (rule, kind, share)
    for kind, share in by_kind(items, right["majority of the kind"]).items():
        if kind != "unsaid":
            assert share <= (0.55 if kind in ("knows", "been", "together") else 0.4), (kind, share)


@BOTH
def test_the_groups_of_a_kind_take_turns_in_afternoons(task: str) -> None:
    groups = defaultdict(Counter[str])
    for kind in ("where-thing", "who-has", "together"):
        for index in range(0, 52, 2):
            groups[kind][exam_item(TASKS[task], "seen", kind, index).question.group] += 1
    for kind, counts in groups.items():
        for group, n in Counter(GROUPS[kind]).items():
            assert abs(counts[group] / 26 - n / len(GROUPS[kind])) < 0.08, (kind, counts)


# Nothing of the exam is in training


@BOTH
def test_the_last_wording_is_for_the_exam_alone(task: str) -> None:
    words = TASKS[task]
    for table in words.questions.values():
        assert len(table) >= 5 and len(set(table)) == len(table)

    def ask(item: Example) -> list[str]:
        form = item.question.form or item.kind
        return [words.ask(item.question, n, "-") for n in range(len(words.questions[form]))]

    for item in asked(task, 300):
        if item.situation in ("single", "attack"):
            *known, held_out = ask(item)
            text = item.dialogue[0].content.rpartition("\n")[2]
            assert text in known and text != held_out
    for item in exam(task, 2, "wording"):
        assert item.dialogue[0].content == f"{item.story}\n{ask(item)[-1]}"


def has_held_out_pair(task: str, story: str) -> bool:
    """Whether a story is about a held-out thing and names a held-out place."""
    table = TABLES[task].AT | (russian.TO if task.endswith("ru") else {})
    forms = [table[place] for place in HELD_OUT_PLACES]
    if task.endswith("ru"):
        forms += [russian.AT[place] for place in HELD_OUT_PLACES]
    else:
        forms = [form.partition(" ")[2] for form in forms]  # "the hall": in it and to it
    thing = Reading(READERS[task]()).read(story).thing
    return thing in HELD_OUT_THINGS and any(form in story.lower() for form in forms)


@BOTH
def test_held_out_pairs_are_in_their_part_of_the_exam_alone(task: str) -> None:
    for item in islice(examples(task, "train"), 200):
        told = item.dialogue[-1].content if item.kind in WHOLE_STORIES else ""
        assert not has_held_out_pair(task, f"{item.story} {told}".strip()), item
    assert not any(has_held_out_pair(task, item.story) for item in exam(task, 1))
    assert all(has_held_out_pair(task, item.story) for item in exam(task, 1, "pair"))


@BOTH
def test_no_story_of_the_exam_is_in_training(task: str) -> None:
    trained = {item.story for item in islice(examples(task, "train"), 200)} - {""}
    assert not trained & {item.story for part in PARTS for item in exam(task, 1, part)}


@BOTH
def test_no_words_ask_two_kinds_of_question(task: str) -> None:
    words, meant = TASKS[task], dict[str, str]()
    for form, table in words.questions.items():
        where = "vera" if form == "promised-kept" else "hall"
        whats = ("leo", "max") if form == "together" else ("cup", "max")
        if form != "thinks":
            whats = whats[:1]
        for who, what in product(("",) if form in OF_THINGS else ("nina", "max"), whats):
            question = Question(form, Answer("yes"), "", form, who, what, where)
            for number in range(len(table)):
                assert meant.setdefault(words.ask(question, number, "-"), form) == form
    assert len(meant) > 100


# The words


def test_english_questions_and_answers() -> None:
    words = TASKS["tiny-questions"]
    thinks = Question("thinks", Answer("unknown"), who="nina", what="max")
    assert words.ask(thinks, 0, "-") == "Where does Nina think Max is?"
    assert words.ask(thinks, 3, "nina") == "And tell me where she thinks Max is."
    assert words.answer(thinks, thinks.answer) == "Nina does not know."
    has = Question("who-has", Answer("holder"), what="umbrella")
    assert words.ask(has, 0, "umbrella") == "And who has it?"
    assert words.answer(has, has.answer) == "Nobody has the umbrella."
    tell = Question("tell", Answer("story"), who="leo", what="umbrella")
    assert words.ask(tell, 0, "-") == "Tell a story about Leo and an umbrella."


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        (Question("where-thing", Answer("place", "porch"), what="mirror"),
         ("Где зеркало?", "А где оно?", "Зеркало на крыльце.")),
        (Question("who-has", Answer("holder", "max"), what="cup"),
         ("У кого чашка?", "А у кого она?", "Чашка у Максима.")),
        (Question("who-has", Answer("holder"), what="ball"),
         ("У кого мяч?", "А у кого он?", "Мяч ни у кого.")),
        (Question("where-first", Answer("place", "river"), what="bucket"),
         ("Где было ведёрко вначале?", "А где было оно вначале?", "Вначале ведёрко было у реки.")),
        (Question("who-wants", Answer("person", "kate"), what="rope"),
         ("Кто хотел взять верёвку?", "А кто хотел взять её?", "Верёвка нужна Кате.")),
        (Question("look", Answer("look", "blue"), what="mirror"),
         ("Какое зеркало?", "А какое оно?", "Зеркало синее.")),
        (Question("why", Answer("reason", "0"), who="leo", what="boat"),
         ("Зачем Лёве кораблик?", "", "Кораблик нужен Лёве, чтобы поиграть в пиратов.")),
        (Question("before", Answer("place", "hall"), who="peter", where="attic"),
         ("Где был Петя, прежде чем прийти на чердак?",
          "А где был он, прежде чем прийти на чердак?", "Петя был в прихожей, потом на чердаке.")),
        (Question("knows", Answer("no"), who="vera", what="lamp", facts=("barn", "")),
         ("Знает ли Вера, где лампа?", "А знает ли она, где лампа?",
          "Лампа в сарае, а Вера не знает где. Нет.")),
        (Question("thinks", Answer("unknown"), who="mike", what="anna"),
         ("Где, по мнению Миши, Аня?", "А где, по его мнению, Аня?", "Миша не знает.")),
        (Question("been", Answer("yes"), who="alice", where="bridge"),
         ("Была ли Алиса на мосту?", "А была ли она на мосту?", "Да, Алиса была на мосту.")),
        (Question("how-many", Answer("times", "2"), who="nick", facts=("hall", "river")),
         ("Сколько раз Коля куда-то ходил?", "А сколько раз он куда-то ходил?",
          "Коля ходил в прихожую, потом к реке. Два раза.")),
        (Question("together", Answer("no"), who="vera", what="leo", facts=("mill", "hill")),
         ("Вера и Лёва сейчас вместе?", "", "Вера на мельнице, а Лёва на холме. Нет.")),
        (Question("said", Answer("shrug", "1"), who="nina", what="lamp"),
         ("Что ответила Нина?", "", "Я не видела.")),
        (Question("promised", Answer("promiser"), form="promised-who", what="doll"),
         ("Кто пообещал принести куклу?", "", "Никто не обещал принести куклу.")),
        (Question("promised", Answer("yes"), "", "promised-kept", "max", "doll", "mary"),
         ("Максим уже принёс Маше куклу?", "", "Да.")),
        (Question("tell", Answer("unsaid"), who="mary", what="basket"),
         ("Расскажи историю про Машу и корзинку.", "", "Этого в нём нет.")),
    ],
    ids=lambda value: value.kind if isinstance(value, Question) else "",
)  # fmt: skip
def test_russian_cases_and_genders(question: Question, texts: tuple[str, str, str]) -> None:
    words = TASKS["tiny-questions-ru"]
    plain, by_pronoun, answer = texts
    assert words.ask(question, 0, "-") == plain
    if by_pronoun:
        assert words.ask(question, 0, question.who or question.what) == by_pronoun
    assert words.answer(question, question.answer) == answer


@pytest.mark.slow
@BOTH
def test_dialogues_fit_into_the_context(task: str, tmp_path: Path) -> None:
    """176 tokens of a vocabulary of the world's own; longer stories 256."""
    texts = [one.text for one in islice(stories(LANGUAGES[TASKS[task].world], "train"), 8000)]
    tokenizer = Tokenizer.train(texts, 2048)

    def lengths(items: list[Example]) -> list[int]:
        return [len(encode_dialogue(item.dialogue, tokenizer).tokens) for item in items]

    long = [n for n in lengths(list(islice(examples(task, "train"), 5000))) if n > 176]
    assert len(long) <= 5  # disputed answers of two sentences: they are left out of training
    assert max(lengths([item for part in PARTS[:3] for item in exam(task, 25, part)])) <= 176
    assert max(lengths(exam(task, 25, "longer"))) <= 256
