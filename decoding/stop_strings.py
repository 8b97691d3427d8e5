"""Stop strings: text is given out as soon as no stop string can begin in it.

A stop string may begin in one token and end in another, and a character may be spread over
several tokens. So the end of the text is held back as long as it may become a stop string or a
whole character. Of several stop strings the one that is complete first ends the text; of those
that are complete at the same character, the longest. Where tokens begin and end plays no part.
Previous: settings.py.  Next: rows.py.
"""

from tokenizer import DecodeStream


class StopStringBuffer:
    """Takes tokens and gives out the text that is certain to stand before every stop string."""

    def __init__(self, decoder: DecodeStream, stop: tuple[str, ...] = ()) -> None:
        self.decoder = decoder
        self.stop = stop
        self.held = ""  # text that may become a stop string
        self.matched: str | None = None  # the stop string that ended the text

    def step(self, token: int) -> str:
        """Returns the text that one more token makes certain; "" after the end."""
        if self.matched is not None:
            return ""
        self.held += self.decoder.step(token)
        end = self.match()
        if end is None:
            end = len(self.held) - self.longest_partial_match()
        certain, self.held = self.held[:end], self.held[end:]
        return certain

    def finish(self) -> str:
        """Returns the text that was held back, after the last token, without half a character."""
        if self.matched is not None:
            return ""
        rest, self.held = self.held, ""
        return rest

    def match(self) -> int | None:
        """Returns where the stop string begins that is complete first, and keeps it."""
        starts = [(self.held.find(stop), stop) for stop in self.stop]
        complete = [(start + len(stop), start, stop) for start, stop in starts if start >= 0]
        if not complete:
            return None
        _, start, self.matched = min(complete)
        return start

    def longest_partial_match(self) -> int:
        """Returns how many characters at the end of the text some stop string begins with."""
        longest = max(map(len, self.stop), default=1) - 1
        for n in range(min(longest, len(self.held)), 0, -1):
            if any(stop.startswith(self.held[-n:]) for stop in self.stop):
                return n
        return 0
