"""Stops: text that is safe to show while it is being written, and where it ends.

A stop string may begin in one token and end in another, and a character may be spread over
several tokens. So the end of the text is held back as long as it may become a stop string or a
whole character. Of several stop strings the one that is complete first ends the text; of those
that are complete at the same character, the longest. The cutting into tokens plays no part.
"""

from tokenizer import DecodeStream


class SafeText:
    """Fed with tokens, gives out the text that is certain to stand before every stop string."""

    def __init__(self, decoder: DecodeStream, stop: tuple[str, ...] = ()) -> None:
        self.decoder = decoder
        self.stop = stop
        self.held = ""  # may become a stop string
        self.found: str | None = None  # the stop string that ended the text

    def step(self, token: int) -> str:
        """The text that one more token makes certain; "" after the end."""
        if self.found is not None:
            return ""
        self.held += self.decoder.step(token)
        start = self.find()
        if start is None:
            start = len(self.held) - self.n_open()
        safe, self.held = self.held[:start], self.held[start:]
        return safe

    def finish(self) -> str:
        """What was held back, when no more tokens come; half a character is left out."""
        if self.found is not None:
            return ""
        rest, self.held = self.held, ""
        return rest

    def find(self) -> int | None:
        """Where the stop string begins that is complete first; remembers it."""
        places = [(self.held.find(stop), stop) for stop in self.stop]
        complete = [(start + len(stop), start, stop) for start, stop in places if start >= 0]
        if not complete:
            return None
        _, start, self.found = min(complete)
        return start

    def n_open(self) -> int:
        """Characters at the end that some stop string begins with."""
        longest = max(map(len, self.stop), default=1) - 1
        for n in range(min(longest, len(self.held)), 0, -1):
            if any(stop.startswith(self.held[-n:]) for stop in self.stop):
                return n
        return 0
