"""Display: texts on a screen while they are generated, or as lines of JSON; and the speed.

Previous: engine.py.  Next: ../generation.py.
"""

import math
import time
from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from decoding.rows import RowState
from run_directory.printable import json_line, printable

# A token with a probability below the number gets the colour; likely ones keep the terminal's own.
COLOURS = ((0.02, "bright_red"), (0.1, "dark_orange"), (0.4, "yellow"), (0.8, "bright_green"))


class Display:
    """Shows texts in their order, each piece as soon as the texts before it are complete.

    On a terminal the colour of a piece tells its probability, unless coloured is False.
    """

    def __init__(
        self,
        console: Console,
        prompts: list[str],
        rows: list[RowState],
        *,
        as_json: bool = False,
        coloured: bool = True,
    ) -> None:
        self.console, self.as_json, self.coloured = console, as_json, coloured
        self.waiting = list(zip(prompts, rows, strict=True))
        self.n_shown: int | None = None  # pieces of the first text; None: not its prompt either

    def update(self) -> None:
        """Shows the text that has been generated since the last call."""
        while self.waiting:
            prompt, row = self.waiting[0]
            if not self.as_json:
                self.show(prompt, row)
            if row.reason is None:
                return
            if self.as_json:
                self.put(json_line(to_json(prompt, row), self.console.encoding) + "\n")
            else:
                self.put("\n\n" if len(self.waiting) > 1 else "\n")
            self.waiting.pop(0)
            self.n_shown = None

    def show(self, prompt: str, row: RowState) -> None:
        """Shows the prompt and the new pieces of a text."""
        if self.n_shown is None:
            self.put(prompt)
            self.n_shown = 0
        values = row.log_probabilities  # the last piece may have none of its own
        pairs = list(zip_longest(row.pieces, values, fillvalue=values[-1] if values else 0.0))
        for piece, log_probability in pairs[self.n_shown :]:
            style = colour(math.exp(float(log_probability))) if self.coloured else ""
            self.put(str(piece), style)
        self.n_shown = len(pairs)

    def put(self, text: str, style: str = "") -> None:
        """Writes text in a colour on a terminal, elsewhere every character as it is.

        A terminal would obey the control characters of a text: it gets them as visible escapes.
        """
        if self.console.is_terminal:
            self.console.print(Text(printable(text), style), end="", soft_wrap=True)
        else:
            self.console.file.write(text)
            self.console.file.flush()


def colour(probability: float) -> str:
    """Returns the colour of a token of this probability, "" for the terminal's own."""
    return next((name for limit, name in COLOURS if probability < limit), "")


def to_json(prompt: str, row: RowState) -> dict[str, object]:
    """Returns the fields of a text in the output of --json."""
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
    """Measures the time to the first token and the tokens per second after it."""

    def __init__(self) -> None:
        self.started = self.latest = time.perf_counter()
        self.first: float | None = None
        self.n_first = self.n_tokens = 0

    def record(self, rows: list[RowState]) -> None:
        """Takes the time and counts the tokens of all rows."""
        self.latest = time.perf_counter()
        self.n_tokens = sum(len(row.tokens) for row in rows)
        if self.first is None:
            self.first, self.n_first = self.latest, self.n_tokens

    def report(self) -> str:
        """Returns the number of tokens and the speed as a line of text."""
        first = self.latest if self.first is None else self.first
        report = f"{self.n_tokens} tokens; the first after {1000 * (first - self.started):.0f} ms"
        if self.latest > first:
            speed = (self.n_tokens - self.n_first) / (self.latest - first)
            report += f", then {speed:.1f} tokens/s"
        return report
