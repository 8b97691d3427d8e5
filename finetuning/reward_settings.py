"""RewardConfig: how a model learns from answers of its own that are checked.

Previous: labelled_pairs.py.  Next: reinforce.py.
"""

import math
from dataclasses import dataclass

from cfg_gpt2 import require, require_range


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """How a model learns from its own answers."""

    __pydantic_config__ = {"extra": "forbid"}

    answers: int = 8  # to each question; they are compared with each other
    temperature: float = 1.0  # of the answers; higher: they differ more
    max_new_tokens: int = 32  # of an answer; one that has not ended by then is wrong

    def __post_init__(self) -> None:
        require_range("--reward.answers", self.answers, 2, 1024, "; try 8")
        require(
            0.01 <= self.temperature < math.inf,
            f"--reward.temperature {self.temperature} must be at least 0.01, or all answers to a "
            "question are the same; try 1",
        )
        require_range("--reward.max-new-tokens", self.max_new_tokens, 1, 1 << 20, "; try 32")
