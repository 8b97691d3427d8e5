"""What asks a run to stop after this step and save: Ctrl-C, SIGTERM, a lost terminal or reader.

    SIGINT    Ctrl-C
    SIGTERM   schedulers send it before they kill
    SIGHUP    the terminal was closed, or its connection lost; nohup turns it off
    SIGPIPE   the reader of the output has gone, as in ... | head

Previous: tensorboard_log.py.  Next: machine.py.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from training.progress import CommandConsole

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
SIGHUP = getattr(signal, "SIGHUP", None)  # Windows has none
SIGPIPE = 13  # Python gets BrokenPipeError in its place


class StopSignal:
    """Which signal has asked the program to stop."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.received = 0

    @property
    def number(self) -> int:
        """The signal's number, SIGPIPE where the output cannot be written; 0: go on."""
        is_lost = isinstance(self.console, CommandConsole) and self.console.lost
        return self.received or (SIGPIPE if is_lost else 0)


@contextmanager
def stop_signal(console: Console) -> Iterator[StopSignal]:
    """Inside this context the first signal asks to stop, and the second one stops at once.

    SIGHUP never stops at once, for a terminal that is closed sends it more than once. The output's
    loss asks to stop as well. Signals reach only a program's main thread; in another thread this
    context installs no handlers.
    """
    stop = StopSignal(console)

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.received = stop.received or number
        for other in handlers.keys() - {SIGHUP}:
            signal.signal(other, handlers[other])

    handlers = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    if SIGHUP and handlers[SIGHUP] == signal.SIG_IGN:  # by nohup
        del handlers[SIGHUP]
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    if isinstance(console, CommandConsole):
        console.outlives_reader = True
    try:
        for number in handlers:
            signal.signal(number, ask_to_stop)
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if isinstance(console, CommandConsole):
            console.outlives_reader = False
