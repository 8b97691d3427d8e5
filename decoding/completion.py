"""Completion: one text while it is being written, and the pen that writes it."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from decoding.settings import SamplingConfig
from decoding.stops import SafeText
from tokenizer import Tokenizer

Reason = Literal["length", "stop_token", "stop_string"]


@dataclass(kw_only=True)
class Completion:
    """One text while it is being written, and in the end why it ended."""

    prompt: list[int]
    seed: int
    rank: int = 0  # with beams: 0 for the best text, 1 for the second best
    tokens: list[int] = field(default_factory=list)  # the new ones, without a stop token
    log_probabilities: list[float] = field(default_factory=list)  # of the model, unfiltered
    pieces: list[str] = field(default_factory=list)  # the text that each token made certain
    reason: Reason | None = None  # why it ended; None: it has not
    stopped_by: int | str | None = None  # the stop token or the stop string

    @property
    def text(self) -> str:
        """Of the new tokens: before any stop string, without half a character."""
        return "".join(self.pieces)


class Pen:
    """Writes one row: its random numbers, and what may end it."""

    def __init__(
        self,
        row: Completion,
        config: SamplingConfig,
        tokenizer: Tokenizer | None,
        device: torch.device,
    ) -> None:
        self.row, self.config = row, config
        self.generator = torch.Generator(device).manual_seed(row.seed)
        self.safe = SafeText(tokenizer.decode_stream(), config.stop) if tokenizer else None

    def add(self, token: int, log_probability: float) -> None:
        """One more token, which may be the end."""
        row = self.row
        if token in self.config.stop_tokens:
            row.reason, row.stopped_by = "stop_token", token
        else:
            row.tokens.append(token)
            row.log_probabilities.append(log_probability)
            if self.safe:
                row.pieces.append(self.safe.step(token))
                if self.safe.found is not None:
                    row.reason, row.stopped_by = "stop_string", self.safe.found
        if row.reason is None and len(row.tokens) == self.config.max_new_tokens:
            row.reason = "length"
        if row.reason and self.safe:
            row.pieces.append(self.safe.finish())  # one piece more than tokens
