"""The native step's library: step.cpp and its headers, compiled once for a machine.

The compiler makes use of every instruction of this processor, so a library is for one kind of
machine. It is kept in native/built under a name that is the hash of the sources, the flags and the
compiler's own description of itself and the processor; any change compiles it anew.
Previous: step.cpp.  Next: compiled.py.
"""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
from pathlib import Path
from shutil import which

from run_directory.files import sync
from run_directory.lock import PART, in_turn

SOURCE_DIR = Path(__file__).parent
SOURCES = ("vectors.h", "tiles.h", "step.cpp")  # the last one includes the others
BUILT = SOURCE_DIR / "built"
COMPILERS = ("c++", "g++", "clang++")  # Microsoft's has no vector types of its own
NATIVE = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
INLINE = "-fno-semantic-interposition"  # functions of the library itself may be inlined
FLAGS = ("-std=c++17", "-O3", NATIVE, "-shared", "-fPIC", INLINE)
OPENMP = "-fopenmp"  # several threads; where a compiler lacks it, one computes everything


@functools.cache
def library() -> ctypes.CDLL:
    """Returns the library: for several threads, or for one where OpenMP is missing.

    Raises ValueError where the compiler refuses, OSError where the result cannot be stored.
    """
    compiler = next(name for name in COMPILERS if which(name))
    # prints the compiler's version and the options that it derives for this processor
    description = subprocess.run(
        [compiler, NATIVE, "-E", "-v", "-"], stdin=subprocess.DEVNULL, capture_output=True
    ).stderr
    sources = [SOURCE_DIR / name for name in SOURCES]
    text, message = b"".join(source.read_bytes() for source in sources), ""
    for flags in ((*FLAGS, OPENMP), FLAGS):
        key = hashlib.sha256(text + " ".join(flags).encode() + description).hexdigest()[:16]
        file = BUILT / f"{key}.so"
        message = "" if file.is_file() else build([compiler, *flags, str(sources[-1])], file)
        if not message:
            return ctypes.CDLL(str(file))
    lines = message.splitlines()
    error = next((line for line in lines if "error" in line), " ".join(lines))
    raise ValueError(f"{compiler} cannot compile {SOURCES[-1]}: {error}; write --native off")


def build(command: list[str], file: Path) -> str:
    """Makes the file, whole or not at all. Returns "" or the compiler's message.

    Where another process does the same at this moment, this one waits for it.
    """
    with in_turn(file, lambda process: None) as locked:
        if file.is_file():
            return ""
        own = "" if locked else f".{os.getpid()}"
        output = file.with_name(f".{file.name}{own}{PART}")  # overwrites what a killed one left
        try:
            done = subprocess.run(
                [*command, "-o", str(output)],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
            )
            if done.returncode != 0:
                return done.stderr or f"it ended with status {done.returncode}"
            sync(output)
            output.replace(file)
        finally:
            output.unlink(missing_ok=True)
    return ""


def has_threads() -> bool:
    """Whether the library was compiled with OpenMP, so that a step takes PyTorch's threads."""
    return bool(library().has_threads())
