"""A command in a terminal, as a person has it: a pseudo-terminal of the system."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path


def in_terminal(
    command: Sequence[str],
    columns: int = 80,
    *,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    timeout: float = 120,
) -> tuple[int, bytes]:
    """Runs a command in a terminal of its own and returns its status and all that it showed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, start_new_session=True,
        env={**clean, "TERM": "xterm-256color", **(environment or {})},
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # EIO: the command has closed its side
            pass
        os.close(ours)
        return process.wait(timeout), shown


def typed_in_terminal(
    command: Sequence[str], turns: Sequence[tuple[bytes, bytes]], timeout: float = 120
) -> tuple[int, bytes]:
    """Runs a command as in_terminal does, and types: (what is waited for, what is typed then).

    Control characters act as keys do: b"\\x03" is Ctrl-C, b"\\x04" Ctrl-D.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # else no key sends a signal
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        for awaited, typed in turns:
            n_before = len(shown)
            while awaited not in shown[n_before:]:
                assert select.select([ours], [], [], timeout)[0], (awaited, shown)
                shown += os.read(ours, 65536)
            os.write(ours, typed)
        try:
            while select.select([ours], [], [], timeout)[0]:
                shown += os.read(ours, 65536)
        except OSError:  # EIO: the command has closed its side
            pass
        os.close(ours)
        return process.wait(timeout), shown
