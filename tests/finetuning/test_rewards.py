"""What answers earn, and the KL of told stories from the world's law, against what is known."""

import math
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise

import pytest
import torch

from data.tiny_world.stories import LANGUAGES, Story, read_story, stories
from finetuning.checked_questions import requests_of_task
from finetuning.exam import Answer
from finetuning.reward_settings import RewardConfig
from finetuning.rewards import (
    REQUEST_BITS,
    REWARDS,
    StoryItem,
    kl_to_world,
    possible_stories,
    story_bits,
)

N = 400


@pytest.fixture(scope="module")
def told() -> list[Story]:
    """Some stories, as the world tells them."""
    return list(islice(stories(LANGUAGES["tiny-world"], "validation"), N))


def request(story: Story, which: int = 0) -> StoryItem:
    """Returns the request for a story about one of its people and its thing."""
    people = story.state.people
    return StoryItem(
        prompt=(), answers=(story.text,), kind="tell", who=people[which], what=story.state.thing,
        world=LANGUAGES["tiny-world"],
    )  # fmt: skip


@pytest.mark.parametrize("task", ["tiny-questions", "tiny-questions-ru"])
def test_the_built_in_requests_are_answered_by_their_own_stories(task: str) -> None:
    config = RewardConfig(function="story")
    items = [*requests_of_task(task, "train", 20, lambda *done: None)]
    assert len({item.prompt for item in items}) > 10
    for item, other in pairwise(items):
        assert isinstance(item, StoryItem) and isinstance(other, StoryItem)
        [text] = item.answers
        assert REWARDS["story"](Answer(text, ended=True), item, config) == 1
        is_about_the_same = (
            other.what == item.what and other.who in read_story(text, item.world).state.people
        )
        assert REWARDS["story"](Answer(text, ended=True), other, config) == is_about_the_same


def test_only_a_whole_story_about_whom_and_what_was_asked_is_possible(told: list[Story]) -> None:
    for story in told[:20]:
        item, text = request(story, which=1), story.text
        assert story_bits(Answer(f" {text}\n", ended=True), item) == story.bits - REQUEST_BITS
        stranger = next(who for who in ("anna", "max", "leo") if who not in story.state.people)
        for wrong, meant in (
            (Answer(text, ended=False), item),
            (Answer(text.rpartition(". ")[0] + ".", ended=True), item),
            (Answer(f"{text} {text}", ended=True), item),
            (Answer(text.replace("a", "o"), ended=True), item),
            (Answer("", ended=True), item),
            (Answer(text, ended=True), replace(item, who=stranger)),
            (
                Answer(text, ended=True),
                replace(item, what="book" if item.what != "book" else "hat"),
            ),
        ):
            assert story_bits(wrong, meant) == math.inf
            assert REWARDS["story"](wrong, meant, RewardConfig(function="story")) == 0


def test_a_request_has_the_probability_that_it_is_given(told: list[Story]) -> None:
    """Each person is in a sixth of the stories and each thing in a sixteenth, up to 4.5 sigma."""
    people = Counter(who for story in told for who in story.state.people)
    things = Counter(story.state.thing for story in told)
    assert math.log2(6 * 16) == pytest.approx(REQUEST_BITS)
    for counts, n_names, p in ((people, 12, 1 / 6), (things, 16, 1 / 16)):
        assert len(counts) == n_names
        for n in counts.values():
            assert abs(n - N * p) < 4.5 * math.sqrt(N * p * (1 - p))


def test_the_kl_of_stories_told_by_the_law_itself_is_zero_and_that_of_one_story_all_its_bits(
    told: list[Story],
) -> None:
    items = [request(story) for story in told]
    answers = [Answer(story.text, ended=True) for story in told]
    bits = torch.tensor([story.bits - REQUEST_BITS for story in told])
    [by_law] = kl_to_world(answers, items, -bits * math.log(2))
    assert by_law.mean().item() == pytest.approx(0, abs=1e-4)
    # half of what is told by the law, half nonsense: the stories are still told by the law
    half = [a if n % 2 else Answer("Hm.", ended=True) for n, a in enumerate(answers)]
    [of_half] = kl_to_world(half, items, (-bits - 1) * math.log(2))
    assert of_half.mean().item() == pytest.approx(0, abs=1e-4)
    assert [share.mean().item() for share in possible_stories(half, items)] == [0.5]
    [of_one] = kl_to_world(answers[:1] * 9, items[:1] * 9, torch.zeros(9))
    assert of_one.mean().item() == pytest.approx(bits[0].item())
    [of_none] = kl_to_world([Answer("", ended=True)], items[:1], torch.zeros(1))
    assert of_none.isnan().all()


def test_length_is_earned_by_words_alone(told: list[Story]) -> None:
    config, item = RewardConfig(function="length", max_new_tokens=10), request(told[0])
    answers = [Answer("la " * n, ended=False) for n in (0, 5, 10, 50)]
    assert [REWARDS["length"](answer, item, config) for answer in answers] == [0, 0.5, 1, 1]
