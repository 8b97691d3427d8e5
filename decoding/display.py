"""Display: texts as a person sees them being written, or as lines of JSON; and how fast it was."""

import json
import math
import time
from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from decoding.completion import Completion

# Less than this probability: this colour. What the model is sure of stays as it is.
COLOURS = ((0.02, "bright_red"), (0.1, "dark_orange"), (0.4, "yellow"), (0.8, "bright_green"))


class Display:
    """Shows the texts in their order, each piece as soon as it is there and its turn has come."""

    def __init__(
        self, console: Console, prompts: list[str], rows: list[Completion], *, as_json: bool
    ) -> None:
        self.console, self.as_json = console, as_json
        self.waiting = list(zip(prompts, rows, strict=True))
        self.n_shown: int | None = None  # pieces of the first that waits; None: nothing

    def update(self) -> None:
        """Shows what has been written since the last time."""
        while self.waiting:
            prompt, row = self.waiting[0]
            if not self.as_json:
                self.show(prompt, row)
            if row.reason is None:
                return
            if self.as_json:
                self.put(json.dumps(described(prompt, row), ensure_ascii=False) + "\n")
            else:
                self.put("\n\n" if len(self.waiting) > 1 else "\n")
            self.waiting.pop(0)
            self.n_shown = None

    def show(self, prompt: str, row: Completion) -> None:
        if self.n_shown is None:
            self.put(prompt)
            self.n_shown = 0
        likely = row.log_probabilities
        pairs = list(zip_longest(row.pieces, likely, fillvalue=likely[-1] if likely else 0.0))
        for piece, log_probability in pairs[self.n_shown :]:
            self.put(str(piece), colour(math.exp(float(log_probability))))
        self.n_shown = len(pairs)

    def put(self, text: str, style: str = "") -> None:
        """Colours on a terminal; elsewhere every character as it is."""
        if self.console.is_terminal:
            self.console.print(Text(text, style), end="", soft_wrap=True)
        else:
            self.console.file.write(text)
            self.console.file.flush()


def colour(probability: float) -> str:
    return next((name for limit, name in COLOURS if probability < limit), "")


def described(prompt: str, row: Completion) -> dict[str, object]:
    """What --json says of a text."""
    return {
        "prompt": prompt,
        "seed": row.seed,
        "text": row.text,
        "tokens": row.tokens,
        "log_probabilities": [round(value, 6) for value in row.log_probabilities],
        "reason": row.reason,
        "stopped_by": row.stopped_by,
    }


class Stopwatch:
    """Seconds to the first token, and tokens a second after it."""

    def __init__(self) -> None:
        self.started = self.latest = time.perf_counter()
        self.first: float | None = None
        self.n_first = self.n_tokens = 0

    def tick(self, rows: list[Completion]) -> None:
        """Something new has been written."""
        self.latest = time.perf_counter()
        self.n_tokens = sum(len(row.tokens) for row in rows)
        if self.first is None:
            self.first, self.n_first = self.latest, self.n_tokens

    def report(self) -> str:
        first = self.latest if self.first is None else self.first
        said = f"{self.n_tokens} tokens; the first after {1000 * (first - self.started):.0f} ms"
        if self.latest > first:
            speed = (self.n_tokens - self.n_first) / (self.latest - first)
            said += f", then {speed:.1f} tokens/s"
        return said
