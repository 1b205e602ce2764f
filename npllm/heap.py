"""Memory that a step frees, kept for the next.

A training step allocates the same arrays as the one before. glibc hands large blocks back to the
system as soon as they are freed, so each step asks for tens of megabytes of fresh pages, which the
system fills with zeros one by one: an eighth to a quarter of a step of section 5's model.
"""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameters (malloc.h), and what they are set to
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = {
    _TRIM_THRESHOLD: 2**31 - 1,  # free bytes at the heap's end that are kept
    _TOP_PAD: 2**24,  # bytes that the heap grows by at least
    _MMAP_THRESHOLD: 2**25,  # bytes from which a block has pages of its own: the most there is
}


def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees; return whether the C library can do that.

    It holds for the whole process, to its end, and does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) for setting in _SETTINGS.items())
