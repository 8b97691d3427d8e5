"""Files that are written whole or not at all, and what identifies their content.

A file is written under a temporary name, flushed to the disk and then renamed into place, so that
neither a crash nor a power cut leaves half of it under its own name.
Previous: lock.py.  Next: json_file.py.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from run_directory.lock import PART, require_in_place


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls write(temporary) to make the file, then renames it to path: whole or not at all.

    The file gets the mode that the umask gives. Raises OSError, with the name of the file, where it
    cannot be written, and FileNotFoundError where the folder that holds it was moved or removed.
    """
    require_in_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}{PART}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes a file that only its owner can read
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if (
            error.errno is not None
        ):  # of a full disk it has no filename, of others the temporary one
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file, or the entries of a folder, are on the disk."""
    if path.is_dir():
        if os.name == "nt":  # Windows opens no folders, and writes their entries by itself
            return
        opened = os.open(path, os.O_RDONLY)
    else:
        opened = os.open(path, os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
