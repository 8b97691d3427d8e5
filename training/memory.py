"""Freed memory is kept for the next step, where Linux's C library would hand it back.

Every step takes the same gradients and activations and frees them again. The library (glibc)
returns each large block to Linux at once, and Linux clears every page before it lends it anew:
with 124 million parameters in bf16 that is a fifth of the step on 2 cores of an AMD EPYC
(torch 2.13, 24 November 2026: 3.02 and 3.27 s a step without this, 2.55 and 2.56 s with it).
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # the numbers of malloc.h
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")


def can_keep_memory() -> bool:
    """Whether the library is glibc, and its user has not said otherwise by a variable."""
    return platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in VARIABLES)


def keep_memory() -> None:
    """From here on large blocks come from the heap, and the heap never shrinks."""
    if can_keep_memory():
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)
