"""A client of the engine in its own process: it collects the pieces of a text."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.tickets import Piece

SECONDS = 60  # that a test waits, at most, for a text that takes milliseconds


@dataclass
class Answer:
    """Collects the pieces of a text; on_piece may do something beside."""

    pieces: list[Piece] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    beside: Callable[[Piece], None] = lambda piece: None

    def __call__(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.beside(piece)
        if piece.finish_reason:
            self.ended.set()

    def wait(self) -> list[Piece]:
        assert self.ended.wait(SECONDS)
        return self.pieces

    @property
    def tokens(self) -> list[int | None]:
        return [piece.token for piece in self.wait()]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.wait())
