"""RewardConfig: how a model learns from answers of its own that are checked.

Previous: labelled_pairs.py.  Next: drawn_answers.py.
"""

import math
from dataclasses import dataclass
from typing import Literal

from cfg_gpt2 import require, require_range

LONGEST = {"right": 32, "story": 136, "length": 136}  # tokens, where no number is given


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """How a model learns from its own answers."""

    __pydantic_config__ = {"extra": "forbid"}

    function: Literal["right", "story", "length"] = "right"
    """what is rewarded: right answers; or, where a story of tiny-world is asked for, story, one
    that this world allows, or length, its words, which shows how a reward is hacked"""
    answers: int = 8  # to each question; they are compared with each other
    temperature: float = 1.0  # of the answers; higher: they differ more
    max_new_tokens: int | None = None
    """of an answer; one that has not ended by then is wrong; None: 32, or 136 of a story"""

    def __post_init__(self) -> None:
        require_range("--reward.answers", self.answers, 2, 1024, "; try 8")
        require(
            0.01 <= self.temperature < math.inf,
            f"--reward.temperature {self.temperature} must be at least 0.01, or all answers to a "
            "question are the same; try 1",
        )
        require_range("--reward.max-new-tokens", self.longest, 1, 1 << 20, "; try 32")

    @property
    def longest(self) -> int:
        """The tokens that an answer may have."""
        return LONGEST[self.function] if self.max_new_tokens is None else self.max_new_tokens
