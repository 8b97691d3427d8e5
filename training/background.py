"""Work beside the training: one job at a time in a thread, whose error is not lost."""

import os
import sys
import threading
from collections.abc import Callable

NICE = 10  # at 0 a 124M step beside it took four times as long, at 19 the writing two minutes


class Background:
    """Runs jobs one after the other, while the caller goes on."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def start(self, job: Callable[[], object]) -> None:
        """Begins a job when the one before is done. The job must own what it works on."""
        self.wait()

        def run() -> None:
            try:
                step_back()
                job()
            except BaseException as error:  # noqa: BLE001  raised again where it is waited for
                self.error = error

        # a daemon: at a second Ctrl-C nobody waits for a file that would be discarded
        self.thread = threading.Thread(target=run, name="saving", daemon=True)
        self.thread.start()

    def wait(self) -> None:
        """Returns when the job is done. Raises what it raised."""
        if self.thread is not None:
            self.thread.join()
        self.check()

    def check(self) -> None:
        """Raises what a job has raised, without waiting for one."""
        if self.error is not None and (self.thread is None or not self.thread.is_alive()):
            error, self.error = self.error, None
            raise error


def step_back() -> None:
    """Lets the training's threads go first, on Linux, where a thread has a rank of its own."""
    if sys.platform == "linux":
        rank = os.getpriority(os.PRIO_PROCESS, 0) + NICE
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, rank))
