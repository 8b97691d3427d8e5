"""Paths: what a user typed becomes a path that can be used, or a sentence that says why not.

Everything here works before a file is opened; of the project it imports nothing, so that a wrong
path is refused before torch is loaded.
Previous: ../cfg_gpt2.py.  Next: lock.py.
"""

import errno
import os
import stat
from pathlib import Path
from typing import Literal

Kind = Literal["file", "folder", "stream", "device", "missing"]

ADVICE = {  # what to do about an error of the operating system
    errno.EACCES: "give yourself the right to it, or name another path",
    errno.EPERM: "give yourself the right to it, or name another path",
    errno.EROFS: "name a path on another disk",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "free some space, or raise the limit (ulimit -f)",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "name another path",
    errno.ENOTDIR: "a part of it is a file where a folder is needed; name another path",
    errno.EISDIR: "name a file",
    errno.ENOENT: "name another path",
    errno.ELOOP: "its links lead in a circle; name the file itself",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def user_path(text: str | Path, flag: str) -> Path:
    """Returns the path that a user has typed as the value of a flag.

    `~` becomes the home directory, and `a/..` the folder that it means, links followed. Whether
    there is such a file is not asked; a pattern such as *.txt stays as it is.
    Raises ValueError, with the flag, for what can be no path: the empty text, a zero byte, a name
    that is not UTF-8 (config.json could not hold it), and a name that is too long for the disk.
    """
    text = os.fspath(text)
    if not text.strip():
        raise ValueError(f"{flag} is empty; give it a path")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{flag} {name_as_text(text)} is not UTF-8; rename it, or name another path"
        ) from None
    if "\0" in text:
        raise ValueError(f"{flag} {name_as_text(text)} has a zero byte, which no path can have")
    path = Path(os.path.expanduser(text))  # ~name without such a user stays, as in shells
    if path.parts[:1] == ("~",):
        raise ValueError(f"{flag} {text}: the home directory is not known; write the whole path")
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"{flag}: {explain(error)}") from None
    return without_dots(path)


def without_dots(path: Path) -> Path:
    """Returns a path without `..`, links followed; a relative one stays relative."""
    if ".." not in path.parts:
        return path
    try:
        whole = path.resolve()
    except (OSError, RuntimeError):  # links in a circle, which whoever opens it reports
        return path
    return whole if path.is_absolute() else Path(os.path.relpath(whole))


def kind_of(path: Path) -> Kind:
    """Returns what a path names, links followed. A stream is a pipe, a terminal or a socket.

    Raises FileNotFoundError for a link whose target is missing, and OSError for links in a circle
    and for a folder that may not be entered.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise FileNotFoundError(
                f"{path} is a link to {os.readlink(path)}, which does not exist; "
                "name the file itself, or renew the link"
            ) from None
        return "missing"
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or is_terminal_or_null(path, mode):
        return "stream"
    return "device"


def is_terminal_or_null(path: Path, mode: int) -> bool:
    """Returns whether a device can be read to its end: a terminal and /dev/null can."""
    if not stat.S_ISCHR(mode):
        return False
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NOCTTY", 0))
    try:
        return os.isatty(opened) or os.path.samefile(path, os.devnull)
    finally:
        os.close(opened)


def require_file(path: Path, advice: str, flag: str = "", *, or_stream: bool = False) -> None:
    """Raises an error with a sentence unless a path names a file that may be read.

    Args:
        path: the file that is going to be read.
        advice: what to do where it is missing or is something else.
        flag: the flag that named it, for the message.
        or_stream: a pipe or the terminal will do, since it is read once, from the beginning.
    Raises FileNotFoundError where it is missing, ValueError where it is something else,
    PermissionError where it may not be read.
    """
    named = f"{flag} {path}".strip()
    kind = kind_of(path)
    if kind == "missing":
        raise FileNotFoundError(f"{named} does not exist; {advice}")
    if kind != "file" and not (or_stream and kind == "stream"):
        raise ValueError(f"{named} is a {kind}, not a file; {advice}")
    as_now = os.access in os.supports_effective_ids  # the rights of this process, as open() has
    if not os.access(path, os.R_OK, effective_ids=as_now):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def require_folder(path: Path, advice: str, flag: str = "") -> None:
    """Raises FileNotFoundError where a path names nothing, ValueError where it is no folder."""
    named = f"{flag} {path}".strip()
    kind = kind_of(path)
    if kind == "missing":
        raise FileNotFoundError(f"{named} does not exist; {advice}")
    if kind != "folder":
        raise ValueError(f"{named} is a {kind}, not a folder; {advice}")


def explain(error: OSError) -> str:
    """Returns one sentence for an error of the operating system: the path, the reason, a remedy.

    An OSError that was raised with a sentence of its own keeps it.
    """
    if error.errno is None or not error.strerror:
        return str(error)
    names = [name_as_text(name) for name in (error.filename, error.filename2) if name is not None]
    advice = ADVICE.get(error.errno)
    reason = error.strerror + (f"; {advice}" if advice else "")
    return f"{' to '.join(names)} cannot be used: {reason}" if names else reason


def name_as_text(name: object) -> str:
    """Returns a name with escapes for the bytes that are not UTF-8, which no stream can print."""
    if isinstance(name, str | bytes | os.PathLike):
        return os.fsencode(name).decode("utf-8", "backslashreplace").replace("\0", "\\0")
    return str(name)
