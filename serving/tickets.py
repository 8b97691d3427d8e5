"""Tickets: a request while the engine works on it, and the pieces of text that come of it.

Previous: scoring.py.  Next: choosing.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from decoding.rows import RowState
from decoding.settings import SamplingConfig
from serving.scoring import Top

FinishReason = Literal["stop", "length", "cancelled", "error"]


class QueueFull(RuntimeError):
    """Raised where as many requests wait as may; the client may come again later."""


class ShuttingDown(RuntimeError):
    """Raised where the engine takes no more requests, because it is being stopped."""


@dataclass(frozen=True)
class Piece:
    """What one more token adds to a text; the last piece of a text has a finish_reason.

    A stop token that ends a text is the last piece's token; its own letters are not in the text.
    """

    token: int | None  # None: the text has ended before its time
    text: str = ""  # what has become certain: it may lag behind the tokens
    log_probability: float = 0.0  # of the token by the model, before any setting changes it
    top: Top = ()  # the most likely tokens in its place, as many as were asked for
    finish_reason: FinishReason | None = None
    error: str | None = None  # a sentence, with finish_reason "error"


class Ticket:
    """One text that was asked for. The engine's thread calls on_piece, which must not block."""

    def __init__(
        self, row: RowState, config: SamplingConfig, on_piece: Callable[[Piece], None], n_top: int
    ) -> None:
        self.row, self.config, self.on_piece, self.n_top = row, config, on_piece, n_top
        self.is_cancelled = self.is_done = False
        self.n_shown = 0  # pieces of the row that were given out
        # rows that agree in this choose their tokens together
        self.choice = replace(config, seed=0, stop=(), max_new_tokens=max(1, config.min_new_tokens))

    @property
    def prompt(self) -> list[int]:
        """The tokens that the text begins with."""
        return self.row.prompt

    @property
    def tokens(self) -> list[int]:
        """The tokens that have been generated."""
        return self.row.tokens

    def cancel(self) -> None:
        """Ends the text at the engine's next turn. Any thread may call it, at any time."""
        self.is_cancelled = True

    def add(self, token: int, log_probability: float, top: Top) -> None:
        """Appends a token to the text and gives out the piece that comes of it."""
        self.row.add(token, log_probability, self.config)
        text = "".join(self.row.pieces[self.n_shown :])
        self.n_shown = len(self.row.pieces)
        reason = self.row.reason
        self.is_done = reason is not None
        finish = None if reason is None else "length" if reason == "length" else "stop"
        self.on_piece(Piece(token, text, log_probability, top, finish))

    def end(self, reason: Literal["cancelled", "error"], error: str | None = None) -> None:
        """Ends the text before its time."""
        self.is_done = True
        self.on_piece(Piece(None, finish_reason=reason, error=error))
