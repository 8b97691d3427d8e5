"""The exam: exact comparison, figures by hand, and greedy answers equal to the plain loop's."""

import random

import pytest
import torch

from cfg_gpt2 import GPT2Config
from finetuning.chat_format import Message, encode_prompt
from finetuning.exam import (
    SPARE_TOKENS,
    Answer,
    ExamItem,
    Graded,
    exam_figures,
    greedy_answers,
    is_right,
    take_exam,
    wilson_interval,
)
from generation import generate_tokens
from gpt2 import GPT2Model
from tokenizer import Tokenizer

WORDS = ("hall", "attic", "barn", "Max", "Nina", "basket")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["The basket is in the hall. Max sat in the attic. Nina. "] * 20, 290)


@pytest.fixture
def model(tokenizer: Tokenizer) -> GPT2Model:
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=96, n_layer=2, n_head=2, n_embd=16
    )
    model = GPT2Model(config).eval()
    with torch.no_grad():  # so that a part of the answers ends by itself
        for p in model.parameters():
            p.mul_(4)
    return model


def item(
    question: str, *answers: str, kind: str = "where", group: str = "", **baselines: str
) -> ExamItem:
    return ExamItem(
        prompt=(Message("user", question),),
        answers=answers or ("In the hall.",),
        kind=kind,
        group=group,
        baselines=baselines,
    )


def some_items(n: int) -> list[ExamItem]:
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(n)]
    return [item(text, "Max", "in the hall") for text in texts]


# Comparison -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ended", "expected"),
    [
        ("In the hall.", True, True),
        (" In the hall.\n", True, True),
        ("In the hall.", False, False),
        ("in the hall.", True, False),
        ("In the hall. In the attic.", True, False),
        ("In the hall", True, False),
        ("", True, False),
        ("He is in the hall.", True, True),
    ],
)
def test_only_a_whole_answer_that_ends_by_itself_is_right(
    text: str, ended: bool, expected: bool
) -> None:
    accepted = ("In the hall.", "He is in the hall. ")
    assert is_right(Answer(text, ended), accepted) is expected


# Answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 4])
def test_answers_equal_those_of_the_plain_loop(
    model: GPT2Model, tokenizer: Tokenizer, batch_size: int | None
) -> None:
    items = some_items(11)
    prompts = [encode_prompt(one.prompt, tokenizer) for one in items]
    reported: list[int] = []
    lengths = [6] * len(prompts)
    answers = greedy_answers(model, tokenizer, prompts, lengths, reported.append, batch_size)
    assert reported[-1] == len(prompts)
    for prompt, answer in zip(prompts, answers, strict=True):
        tokens = []
        for token in generate_tokens(model, prompt, 6 + SPARE_TOKENS, temperature=0):
            if token == tokenizer.end_of_text:
                break
            tokens.append(token)
        assert answer == Answer(tokenizer.decode(tokens), len(tokens) < 6 + SPARE_TOKENS)


def test_items_that_do_not_fit_into_the_context_are_left_out(
    model: GPT2Model, tokenizer: Tokenizer
) -> None:
    short, long = item("Max?"), item("Where is the basket, Nina? " * 20)
    graded = take_exam(model, tokenizer, [short, long, short])
    assert [one.item for one in graded] == [short, short]
    n = len(encode_prompt(short.prompt, tokenizer)) + len(tokenizer.encode(short.answers[0]))
    for room, n_graded in ((n, 1), (n - 1, 0)):
        torch.manual_seed(0)
        small = GPT2Model(
            GPT2Config(
                vocab_size=tokenizer.vocab_size, context_length=room, n_layer=1, n_head=1, n_embd=8
            )
        ).eval()
        assert len(take_exam(small, tokenizer, [short])) == n_graded


# Figures --------------------------------------------------------------------------------------


def test_the_interval_is_wilsons() -> None:
    # Brown, Cai and DasGupta 2001; values of R's prop.test(correct = FALSE)
    for n_right, n, low, high in (
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (5, 10, 0.2365931, 0.7634069),
        (190, 200, 0.9104224, 0.9726145),
    ):
        assert wilson_interval(n_right, n) == pytest.approx((low, high), abs=1e-4)
    assert wilson_interval(200, 200)[1] == 1 and wilson_interval(0, 200)[0] == 0


def test_figures_equal_those_counted_by_hand() -> None:
    unsaid = ("The story does not say.",)
    graded = [
        Graded(item("a", kind="where", first=True), Answer("In the hall.", True), True),
        Graded(
            item("b", kind="where", first=False), Answer("The story does not say.", True), False
        ),
        Graded(item("c", "Yes.", kind="knows"), Answer("Yes. Yes.", False), False),
        Graded(item("d", *unsaid, kind="unsaid"), Answer(unsaid[0], True), True),
        Graded(item("e", *unsaid, kind="unsaid"), Answer("No.", True), False),
        Graded(item("f", "No.", kind="knows", group="long"), Answer("No.", True), True),
    ]
    figures = exam_figures(graded)
    assert figures["items"] == 5 and figures["accuracy"] == 0.4 and figures["ended"] == 0.8
    assert figures["refusal_precision"] == 0.5 and figures["refusal_recall"] == 0.5
    assert figures["kind/where/accuracy"] == 0.5 and figures["kind/where/items"] == 2
    assert figures["kind/where/baseline first"] == 0.5
    assert figures["kind/knows/accuracy"] == 0 and figures["kind/knows/items"] == 1
    assert figures["set/long/accuracy"] == 1 and figures["set/long/items"] == 1
    assert figures["baseline first"] == 0.2 and "baseline most frequent answer" not in figures
    assert figures["kind/unsaid/baseline most frequent answer"] == 1
    low, high = figures["accuracy_low"], figures["accuracy_high"]
    assert (low, high) == wilson_interval(2, 5)


def test_without_questions_of_the_kind_unsaid_there_are_no_figures_of_refusals() -> None:
    figures = exam_figures([Graded(item("a"), Answer("In the hall.", True), True)])
    assert not any("refusal" in name for name in figures)
    only_held_out = exam_figures([Graded(item("a", group="long"), Answer("", True), False)])
    assert only_held_out["items"] == 1 and only_held_out["accuracy"] == 0
