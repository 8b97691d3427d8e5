"""Text that comes through a pipe: read once, and kept in the cache folder as a file.

    --data.path <(zcat book.gz)    --data.path -    --data.path /dev/stdin

A pipe can be read once only, and training, resuming and measuring read their text again. The file
is named by the SHA-256 of its content, so that the same text has the same token files.
Previous: text_files.py.  Next: file_types.py.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from cfg_gpt2 import require
from data.tiny_world.stories import LANGUAGES
from run_directory.files import sync
from run_directory.paths import kind_of, user_path

STANDARD_INPUT = "-"
DEVICES = ("dev", "proc")  # the folders whose names stand for something that is open
READ_BYTES = 1 << 20


def keep_piped(paths: Sequence[str], cache_dir: str) -> tuple[str, ...]:
    """Returns the paths, with a file in the cache folder in place of each pipe, which is read.

    Standard input that comes from a file is replaced by the name of that file. Raises ValueError
    for a pipe without any text.
    """
    return tuple(keep_one(path, user_path(cache_dir, "--data.cache-dir")) for path in paths)


def keep_one(path: str, cache: Path) -> str:
    """Returns a path that can be read again: the given one, if it is no pipe."""
    if path in LANGUAGES:
        return path
    if path == STANDARD_INPUT:
        path = "/dev/stdin"
    named = user_path(path, "--data.path")
    is_open = named.parts[:1] == ("/",) and named.parts[1:2] in [(name,) for name in DEVICES]
    kind = kind_of(named)
    if kind == "file" and is_open and named.resolve().is_file():
        return str(named.resolve())
    if kind == "stream" or (kind == "file" and is_open):  # a file that has been deleted
        return str(keep_stream(named, cache))
    return path


def keep_stream(stream: Path, cache: Path) -> Path:
    """Reads a stream to its end into a file of the cache folder and returns its path."""
    cache.mkdir(parents=True, exist_ok=True)
    part = cache / f".piped-{os.getpid()}.part"
    digest = hashlib.sha256()
    try:
        with stream.open("rb") as source, part.open("wb") as copy:
            while data := source.read(READ_BYTES):
                digest.update(data)
                copy.write(data)
        require(part.stat().st_size > 0, f"{stream} has given no text; name a file, or a full pipe")
        file = cache / f"piped-{digest.hexdigest()[:16]}.txt"
        if not file.exists():
            sync(part)
            part.rename(file)
        return file.resolve()
    except OSError as error:
        error.filename = error.filename or str(part)  # OSError of a full disk has no filename
        raise
    finally:
        part.unlink(missing_ok=True)
