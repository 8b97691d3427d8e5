"""SamplingConfig: how the next token is chosen, and when a text ends.

Previous: ../load_data.py.  Next: stop_strings.py.
"""

from dataclasses import dataclass
from typing import Annotated, TypeVar

import tyro

from cfg_gpt2 import require, require_count

MIN_TEMPERATURE = 1e-6  # below it is 0 to fp32, and logits divided by much less are infinite
MAX_PENALTY = 1e6  # of penalties and biases, so that fp32 holds what becomes of a logit
MAX_BEAMS = 10_000  # each step sorts so many times the vocabulary
MAX_LENGTH_PENALTY = 10  # exponent of a length; higher ones overflow for long texts
T = TypeVar("T")
Repeated = Annotated[T, tyro.conf.UseAppendAction]  # --stop A --stop B, not --stop A B


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How the next token is chosen, and when to stop. logits_processors.py has the formulas."""

    max_new_tokens: int = 200  # stop after so many, if nothing else stops it
    min_new_tokens: int = 0  # no stop token is chosen before so many
    temperature: float = 0.8  # 0: always the most likely; 1: as the model says; higher: wilder
    top_k: int | None = None  # draw among the k most likely tokens only
    top_p: float | None = None  # draw among the most likely that together hold this probability
    min_p: float | None = None  # draw among those that have this share of the highest probability
    repetition_penalty: float = 1.0  # above 1: tokens of the text become less likely
    presence_penalty: float = 0.0  # above 0: tokens that were generated become less likely
    frequency_penalty: float = 0.0  # above 0: the same, for each time they were generated
    no_repeat_ngram: int | None = None  # never generate the same n tokens in a row twice
    logit_bias: Repeated[tuple[tuple[int, float], ...]] = ()  # a token id, what its logit gains
    banned: Annotated[tuple[tuple[int, ...], ...], tyro.conf.Suppress] = ()  # never generated
    suppress_tokens: Annotated[tuple[int, ...], tyro.conf.Suppress] = ()  # ids never generated
    stop_tokens: Repeated[tuple[int, ...]] = ()  # an id that ends a text; may be given again
    stop: Repeated[tuple[str, ...]] = ()  # a string that ends a text, not shown; may be given again
    beams: int = 1  # above 1: beam search, the text most likely as a whole; with temperature 0
    length_penalty: float = 1.0  # of beams: above 0 prefers longer texts, below 0 shorter ones
    seed: int = 1  # the same seed gives the same text

    def __post_init__(self) -> None:
        self.require_counts()
        self.require_probabilities()
        self.require_penalties()
        for word in self.banned:
            require(len(word) > 0, "--ban has an empty word; give at least one token, or leave it")
        require("" not in self.stop, "--stop has an empty string; give at least one character")
        if self.beams > 1:
            require(
                self.temperature == 0,
                f"--beams {self.beams} and --temperature {self.temperature} exclude each other; "
                "beams never draw, so add --temperature 0",
            )
            require(not self.stop, "--beams and --stop exclude each other; stop by --stop-tokens")
        else:
            require(
                self.length_penalty == 1,
                f"--length-penalty {self.length_penalty} is for beams; add --beams 4",
            )

    def require_counts(self) -> None:
        """Raises ValueError for a count that is out of range."""
        require(
            self.max_new_tokens >= 1, f"--max-new-tokens {self.max_new_tokens} must be 1 or more"
        )
        require(
            0 <= self.min_new_tokens <= self.max_new_tokens,
            f"--min-new-tokens {self.min_new_tokens} must be 0 or more and at most "
            f"--max-new-tokens {self.max_new_tokens}",
        )
        require(
            self.no_repeat_ngram is None or self.no_repeat_ngram >= 1,
            f"--no-repeat-ngram {self.no_repeat_ngram} must be 1 or more; try 3",
        )
        require_count("--beams", self.beams, MAX_BEAMS, "; try 4")
        require(-(2**63) <= self.seed < 2**63, f"--seed {self.seed} has more than 64 bits; try 1")

    def require_probabilities(self) -> None:
        """Raises ValueError for a temperature, top-k, top-p or min-p that is out of range."""
        require(
            self.temperature == 0 or MIN_TEMPERATURE <= self.temperature < float("inf"),
            f"--temperature {self.temperature} must be 0 (the most likely token) or at least "
            f"{MIN_TEMPERATURE:g}; try 0.8",
        )
        require(
            self.top_k is None or self.top_k >= 1, f"--top-k {self.top_k} must be 1 or more; try 50"
        )
        require(
            self.top_p is None or 0 < self.top_p <= 1,
            f"--top-p {self.top_p} must be above 0 and at most 1; try 0.95",
        )
        require(
            self.min_p is None or 0 <= self.min_p <= 1,
            f"--min-p {self.min_p} must be at least 0 and at most 1; try 0.05",
        )

    def require_penalties(self) -> None:
        """Raises ValueError for a penalty or a bias that is out of range."""
        require(
            1 / MAX_PENALTY <= self.repetition_penalty <= MAX_PENALTY,
            f"--repetition-penalty {self.repetition_penalty} must be above 0, from "
            f"{1 / MAX_PENALTY:g} to {MAX_PENALTY:g}; try 1.1",
        )
        limits = {
            "presence_penalty": MAX_PENALTY,
            "frequency_penalty": MAX_PENALTY,
            "length_penalty": MAX_LENGTH_PENALTY,
        }
        for name, limit in limits.items():
            value: float = getattr(self, name)
            flag = "--" + name.replace("_", "-")
            require(
                -limit <= value <= limit,  # False for nan
                f"{flag} {value} must lie from {-limit:g} to {limit:g}; try 0.5",
            )
        for token, bias in self.logit_bias:
            require(
                -MAX_PENALTY <= bias <= MAX_PENALTY or bias == -float("inf"),
                f"--logit-bias {token} {bias} must be a number from {-MAX_PENALTY:g} to "
                f"{MAX_PENALTY:g}, or -inf to ban; try {token} 5",
            )

    def require_ids(self, vocab_size: int) -> None:
        """Raises ValueError for a token id that the model does not have."""
        ids = {
            "--logit-bias": [token for token, _ in self.logit_bias],
            "--stop-tokens": list(self.stop_tokens),
            "--ban": [token for word in self.banned for token in word],
        }
        for flag, tokens in ids.items():
            for token in tokens:
                require(
                    0 <= token < vocab_size,
                    f"{flag} names token id {token}; the model has 0 to {vocab_size - 1}",
                )
