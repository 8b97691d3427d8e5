"""RowState: one text while it is generated, with what draws its tokens and what may end it.

Previous: stop_strings.py.  Next: logits_processors.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from decoding.settings import SamplingConfig
from decoding.stop_strings import StopStringBuffer
from tokenizer import Tokenizer

Reason = Literal["length", "stop_token", "stop_string"]


class TokenRow(Protocol):
    """A text as logits processors and batches read it: the prompt and the tokens after it."""

    @property
    def prompt(self) -> Sequence[int]:
        """The tokens that the text begins with."""
        ...

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens that have been generated, in their order."""
        ...


@dataclass(kw_only=True)
class RowState:
    """One text while it is generated, and in the end the reason why it ended."""

    prompt: list[int]
    seed: int
    rank: int = 0  # with beams: 0 for the best text, 1 for the second best
    tokens: list[int] = field(default_factory=list)  # the new ones, without a stop token
    log_probabilities: list[float] = field(default_factory=list)  # by the model, unprocessed
    pieces: list[str] = field(default_factory=list)  # the text that each token made certain
    reason: Reason | None = None  # why it ended; None: it has not
    stopped_by: int | str | None = None  # the stop token or the stop string
    generator: torch.Generator = field(default_factory=torch.Generator, repr=False, compare=False)
    stop_buffer: StopStringBuffer | None = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        """The text of the new tokens: up to any stop string, without half a character."""
        return "".join(self.pieces)

    @property
    def is_done(self) -> bool:
        """Whether the text has ended."""
        return self.reason is not None

    def start(
        self, config: SamplingConfig, tokenizer: Tokenizer | None, device: torch.device
    ) -> None:
        """Seeds the random numbers; with a tokenizer, tokens become text from here on."""
        self.generator = torch.Generator(device).manual_seed(self.seed)
        if tokenizer:
            self.stop_buffer = StopStringBuffer(tokenizer.decode_stream(), config.stop)

    def add(self, token: int, log_probability: float, config: SamplingConfig) -> None:
        """Appends a token, and ends the text where the token or the settings say so."""
        if token in config.stop_tokens:
            self.reason, self.stopped_by = "stop_token", token
        else:
            self.tokens.append(token)
            self.log_probabilities.append(log_probability)
            if self.stop_buffer:
                self.pieces.append(self.stop_buffer.step(token))
                if self.stop_buffer.matched is not None:
                    self.reason, self.stopped_by = "stop_string", self.stop_buffer.matched
        if self.reason is None and len(self.tokens) == config.max_new_tokens:
            self.reason = "length"
        if self.reason and self.stop_buffer:
            self.pieces.append(self.stop_buffer.finish())  # one piece more than tokens
