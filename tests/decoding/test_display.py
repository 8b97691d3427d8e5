"""display.py: what a person sees, on a terminal and elsewhere."""

import io
import json
import math
import re

from rich.console import Console

from decoding.display import Display, Stopwatch
from decoding.rows import RowState


def console(terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, color_system="256", width=20), file


def row(*pieces: tuple[str, float]) -> RowState:
    return RowState(
        prompt=[1], seed=1, tokens=[0] * len(pieces),
        log_probabilities=[math.log(p) for _, p in pieces], pieces=[piece for piece, _ in pieces],
    )  # fmt: skip


def test_texts_appear_in_their_order_and_each_piece_at_once() -> None:
    paper, file = console(terminal=False)
    first, second = row(("b", 0.5)), row(("y", 0.5))
    display = Display(paper, ["a", "x"], [first, second], as_json=False)
    display.update()
    assert file.getvalue() == "ab"
    first.pieces.append("c\t[red]")
    second.reason = "length"
    display.update()
    assert file.getvalue() == "abc\t[red]", "elsewhere than on a terminal nothing is changed"
    first.pieces.append("d")
    first.reason = "length"
    display.update()
    display.update()
    assert file.getvalue() == "abc\t[red]d\n\nxy\n"


def test_a_terminal_shows_unlikely_tokens_in_colours_and_does_not_cut_lines() -> None:
    paper, file = console(terminal=True)
    done = row(("certain " * 5, 0.99), ("likely ", 0.5), ("wild ", 0.001), ("[b]", 0.99))
    done.reason = "length"
    Display(paper, ["prompt "], [done], as_json=False).update()
    shown = file.getvalue()
    assert re.sub(r"\x1b\[[0-9;]*m", "", shown) == "prompt " + "certain " * 5 + "likely wild [b]\n"
    assert re.search(r"\x1b\[[0-9;]+mlikely", shown) and re.search(r"\x1b\[[0-9;]+mwild", shown)
    assert "prompt " + "certain " * 5 in shown


def test_json_is_a_line_for_each_text_when_it_is_finished() -> None:
    paper, file = console(terminal=False)
    first = row(("я\n", 0.5), ("🦊", 0.25))
    display = Display(paper, ["a"], [first], as_json=True)
    display.update()
    assert file.getvalue() == ""
    first.reason, first.stopped_by = "stop_string", "."
    display.update()
    assert json.loads(file.getvalue()) == {
        "prompt": "a", "seed": 1, "text": "я\n🦊", "tokens": [0, 0], "reason": "stop_string",
        "log_probabilities": [-0.693147, -1.386294], "stopped_by": ".",
    }  # fmt: skip
    assert "я" in file.getvalue()


def test_the_stopwatch_counts_tokens_after_the_first() -> None:
    watch, one = Stopwatch(), row(("a", 0.5))
    assert watch.report().startswith("0 tokens; the first after 0 ms")
    watch.record([one])
    one.tokens += [1, 2]
    watch.record([one])
    assert watch.report().startswith("3 tokens; the first after ")
    assert watch.n_tokens - watch.n_first == 2
