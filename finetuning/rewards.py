"""What an answer earns, and how far the told stories are from the law of their world.

    right    1 where the answer ends by itself and is, as a whole, one of the accepted ones
    story    1 where it ends by itself and the world allows it, to its end, as an answer
    length   its words / the tokens that it may have: a reward that says nothing about the world

    P(story | request) = P(story) / P(request)    0 for what is no story of this world
    KL = mean of log2 p(story) - log2 P(story | request) over the possible stories - log2 s
                                       p: the model;  s: the share of possible stories among all
The world knows P exactly. One perfect story told a thousand times earns all of `story`, and its
KL is all the bits that stories differ by.
Previous: drawn_answers.py.  Next: reinforce.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.tiny_world.stories import read_story
from data.tiny_world.world import PEOPLE, THINGS, Language
from finetuning.exam import Answer, ExamItem, is_right
from finetuning.reward_settings import RewardConfig

Reward = Callable[[Answer, ExamItem, RewardConfig], float]
# A person is one of the two of a story, and the thing is this one.
REQUEST_BITS = math.log2(len(PEOPLE) / 2 * len(THINGS))


@dataclass(frozen=True, kw_only=True)
class StoryItem(ExamItem):
    """A request for a story about a person and a thing."""

    who: str
    what: str
    world: Language


def right(answer: Answer, item: ExamItem, config: RewardConfig) -> float:
    """Returns 1 where the whole answer is right, else 0."""
    return float(is_right(answer, item.answers))


def story(answer: Answer, item: ExamItem, config: RewardConfig) -> float:
    """Returns 1 where a story is possible and about whom and what was asked, else 0."""
    assert isinstance(item, StoryItem)
    return float(math.isfinite(story_bits(answer, item)))


def length(answer: Answer, item: ExamItem, config: RewardConfig) -> float:
    """Returns the words of an answer, as a share of the tokens that it may have."""
    return min(1.0, len(answer.text.split()) / config.longest)


REWARDS: Mapping[str, Reward] = {"right": right, "story": story, "length": length}


def story_bits(answer: Answer, item: StoryItem) -> float:
    """Returns -log2 P(story | request), which is infinite where the world cannot tell it."""
    try:
        told = read_story(answer.text.strip(), item.world)
    except ValueError:
        return math.inf
    is_meant = item.who in told.state.people and item.what == told.state.thing
    return told.bits - REQUEST_BITS if answer.ended and is_meant else math.inf


def possible_stories(answers: Sequence[Answer], items: Sequence[ExamItem]) -> list[Tensor]:
    """Returns which stories are possible, (n,) of 0 and 1; nothing where no story is asked for."""
    bits = world_bits(answers, items)
    return [] if bits is None else [bits.isfinite().float()]


def kl_to_world(
    answers: Sequence[Answer], items: Sequence[ExamItem], log_p: Tensor
) -> list[Tensor]:
    """Returns numbers (n,) whose mean is the KL of told stories from the world's law, in bits.

    log_p: by the model, of each story and its end, (n,) in nats. Nothing where no story is asked
    for; nan where no story is possible.
    """
    bits = world_bits(answers, items)
    if bits is None:
        return []
    is_possible = bits.isfinite()
    share = is_possible.float().mean()
    difference = log_p / math.log(2) + bits
    return [difference.where(is_possible, 0) / share - share.log2()]


def world_bits(answers: Sequence[Answer], items: Sequence[ExamItem]) -> Tensor | None:
    """Returns the bits of stories under the world's law, (n,); None where no story is asked for."""
    pairs = zip(answers, items, strict=True)
    bits = [story_bits(answer, item) for answer, item in pairs if isinstance(item, StoryItem)]
    return torch.tensor(bits) if bits else None
