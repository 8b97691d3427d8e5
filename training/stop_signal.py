"""Ctrl-C and SIGTERM, which schedulers send before they kill: a wish to stop after this step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopSignal:
    """The number of the signal that has asked to stop; 0: none has."""

    number: int = 0


@contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Inside this context the first signal asks to stop, the second one stops at once.

    Signals reach a program's first thread only; in another one nothing changes.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.number = number
        put_back()

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    try:
        for number in SIGNALS:
            signal.signal(number, ask)
        yield stop
    finally:
        put_back()
