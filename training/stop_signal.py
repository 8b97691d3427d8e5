"""Ctrl-C and SIGTERM, which schedulers send before they kill: stop after this step.

Previous: background.py.  Next: progress.py.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopSignal:
    """Which signal has asked the program to stop."""

    number: int = 0  # 0: none has


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Inside this context the first signal asks to stop, and the second one stops at once.

    Signals reach only a program's main thread; in another thread this context does nothing.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        stop.number = number
        restore_handlers()

    def restore_handlers() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    handlers = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, ask_to_stop)
        yield stop
    finally:
        restore_handlers()
