"""Files that are written whole or not at all, and what identifies their content.

A file is written under a temporary name, flushed to the disk and then renamed into place, so that
neither a crash nor a power cut leaves half of it under its own name.
Previous: lock.py.  Next: json_file.py.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls write(temporary) to make the file, then renames it to path: whole or not at all.

    Raises OSError, with the name of the file, where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    try:
        write(temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(path)  # OSError of a full disk has no filename
        raise
    finally:
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
