"""The standard streams and Ctrl-C: nothing that happens to them ends a command with a traceback.

    no working folder   one sentence, status 2: torch cannot load its libraries there
    missing streams     >&- or pythonw: os.devnull takes their place
    encodings           a character that the output cannot show is written as \\u0431
    ... | head          printing raises BrokenPipeError: status 141
    Ctrl-C              KeyboardInterrupt, in the middle of an import the end at once: status 130,
                        also where a compiled library makes another error of it
    narrow terminals    texts are laid out for at least MIN_COLUMNS, and the terminal wraps them

README.md lists the exit statuses.
Previous: flags.py.  Next: nanogpt.py.
"""

import _thread
import atexit
import gc
import io
import math
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from run_directory.printable import printable

WRONG_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT  # the exit status that shells give to Ctrl-C
PIPE_CLOSED = 128 + 13  # and to a program whose reader is gone, as in ... | head
SECONDS_TO_FAIL = 2.0  # from Ctrl-C to the error that a library makes of it
MIN_COLUMNS = 20  # tyro's --help does not end on a terminal of one
SHOW_CURSOR = "\x1b[?25h"
STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # by file descriptor


def run(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Returns the exit status of main(arguments), whatever the standard streams are."""
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, interrupt)
            # the interpreter's end takes handlers away, and a signal then changes the status
            atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        sys.unraisablehook = raise_interrupt_again
        prepare_streams()
        status = status_of(main, arguments) if has_working_directory() else WRONG_INPUT
        if status != WRONG_INPUT:
            sys.stdout.flush()  # later nobody could catch that it fails
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = PIPE_CLOSED
    except OSError as error:  # main() has caught all but those of this flush
        say(f"error: the standard output cannot be written: {error.strerror}")
        status = WRONG_INPUT
    if signal.getsignal(signal.SIGINT) is interrupt:
        signal.signal(signal.SIGINT, end_at_once)  # the interpreter's exit cannot be interrupted
    for stream in (sys.stdout, sys.stderr):
        give_up_unwritten(stream)
    gc.freeze()  # the interpreter's exit need not look through all objects for garbage: 0.4 s
    return status


def has_working_directory() -> bool:
    """Tells whether the working directory is there, without which torch ends the process."""
    try:
        os.getcwd()
    except FileNotFoundError:
        say("error: the working directory is gone; change to another one")
        return False
    return True


def status_of(main: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Returns the exit status of main(arguments), also where --help has ended it."""
    try:
        return main(arguments)
    except SystemExit as ended:
        if ended.code not in (0, None):
            raise
        return 0
    except (RuntimeError, SystemError) as error:
        interrupt.raise_again(error)
        raise


def say(message: str) -> None:
    """Prints a message to a person on the standard error; where nobody can read it, nothing."""
    with suppress(OSError):
        print(printable(message), file=sys.stderr)


@contextmanager
def announced(line: str) -> Iterator[None]:
    """Shows a line on a terminal while something goes on, and nothing in a pipe or a file."""
    is_shown = sys.stderr.isatty()
    if is_shown:
        print(line, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if is_shown:
            print("\r" + " " * len(line), end="\r", file=sys.stderr, flush=True)


class PrintableOutput(io.StringIO):
    """The standard output for a library that colours texts: all other sequences are escaped."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes a text with escapes for what a terminal would obey, but for colours."""
        parts = re.split(r"(\x1b\[[\d;]*m)", text)  # each second one is a colour
        shown = (part if n % 2 else printable(part) for n, part in enumerate(parts))
        self.stream.write("".join(shown))
        return len(text)

    def isatty(self) -> bool:
        """Tells whether the standard output is a terminal, where a library may use colours."""
        return self.stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the standard output, which decides whether a library draws frames."""
        return self.stream.encoding


def prepare_streams() -> None:
    """Makes the standard streams such that every text can be printed."""
    for number, (name, mode) in enumerate(STREAMS):
        open_missing(number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace" if mode == "w" else "surrogateescape")
    columns, given = shutil.get_terminal_size().columns, os.environ.get("COLUMNS", "")
    if columns < MIN_COLUMNS or (given.isdigit() and int(given) < MIN_COLUMNS):
        os.environ["COLUMNS"] = str(max(columns, MIN_COLUMNS))


def open_missing(number: int) -> None:
    """Opens os.devnull as a file descriptor that is closed.

    Otherwise the next file that is opened would get its number, and what a library prints.
    """
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)  # by the processes that a command starts


class Interrupt:
    """The handler of Ctrl-C: raises KeyboardInterrupt, and remembers when it did.

    In the middle of an import it ends the process at once: half an import leaves modules broken.
    """

    def __init__(self) -> None:
        self.time = -math.inf  # of the last Ctrl-C, by time.monotonic()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handles the signal."""
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                end_at_once(number, frame)
            frame = frame.f_back
        self.time = time.monotonic()
        raise KeyboardInterrupt

    def raise_again(self, error: BaseException) -> None:
        """Raises KeyboardInterrupt where a compiled library has made this error of it."""
        if time.monotonic() - self.time < SECONDS_TO_FAIL:
            raise KeyboardInterrupt from error


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Ends the process with the status of a signal, after what was printed is written."""
    with suppress(OSError, RuntimeError):  # RuntimeError: the signal came while it was written
        if sys.stdout.isatty():
            sys.stdout.write(SHOW_CURSOR)  # a bar has hidden it
        sys.stdout.flush()
    os._exit(128 + number)


interrupt = Interrupt()


def raise_interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Raises a KeyboardInterrupt anew, a moment after a destructor in which it would be lost."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(0.01, interrupt_main_thread).start()
    else:
        sys.__unraisablehook__(unraisable)


def interrupt_main_thread() -> None:
    """Sends Ctrl-C to the main thread, which wakes it from a system call."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def give_up_unwritten(stream: TextIO) -> None:
    """Writes what a stream still holds; where that fails, Python's exit need not try it again."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
