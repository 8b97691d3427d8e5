"""Work beside the training: one job at a time in a thread, whose error is not lost.

Previous: snapshots.py.  Next: progress.py.
"""

import os
import sys
import threading
from collections.abc import Callable

NICE = 10  # at 0 the training is slowed down, at 19 the writing; see docs/measurements.md


class Background:
    """Runs jobs one after the other, while the caller goes on."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def start(self, job: Callable[[], object]) -> None:
        """Starts a job when the one before is done. Nobody else may change what it works on."""
        self.wait()

        def run() -> None:
            try:
                lower_priority()
                job()
            except BaseException as error:  # noqa: BLE001  raised again where it is waited for
                self.error = error

        # a daemon: a second Ctrl-C does not wait for a file that would be discarded
        self.thread = threading.Thread(target=run, name="saving", daemon=True)
        self.thread.start()

    def wait(self) -> None:
        """Waits until the job is done, and raises the error that it raised."""
        if self.thread is not None:
            self.thread.join()
        self.check()

    def check(self) -> None:
        """Raises the error of a job that has ended, without waiting for one that has not."""
        if self.error is not None and (self.thread is None or not self.thread.is_alive()):
            error, self.error = self.error, None
            raise error


def lower_priority() -> None:
    """Lowers this thread's priority (nice) on Linux, where a thread has a priority of its own."""
    if sys.platform == "linux":
        nice = os.getpriority(os.PRIO_PROCESS, 0) + NICE
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, nice))
