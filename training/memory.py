"""Freed memory is kept for the next step, where Linux's C library would return it to the system.

Every step allocates the same gradients and activations and frees them again. The library (glibc)
returns each large block to Linux at once, and Linux clears every page before it hands it out
again: a fifth of a step of 124 million parameters in bf16 on a CPU (docs/measurements.md).
Generation allocates as much for each prompt; int8 weights are converted to floats there.
Previous: least_memory.py.  Next: training_data.py.
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # the numbers of malloc.h
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")


def can_keep_memory() -> bool:
    """Returns whether the library is glibc, and its user has set none of its variables.

    They are read here, not in a command: they are settings of the C library, which has read them
    itself when the process started, and it has no function that returns what is set.
    """
    return platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in VARIABLES)


def keep_memory() -> None:
    """Lets large blocks come from the heap, and the heap never shrink, from here on."""
    if can_keep_memory():
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
