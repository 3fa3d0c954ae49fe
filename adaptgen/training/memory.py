"""Keeping freed memory, where the C library would rather give it back."""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc not to return freed memory to the system, and to take large blocks from its heap too.

    A training step on CPU frees and takes the same hundreds of megabytes over and over. By default glibc maps each
    large block anew and the kernel clears its pages every time, which took four fifths of a step where page faults
    are dear, as in many virtual machines. Other C libraries are left alone.

    Returns:
        Whether there was something to tell.

    Source: mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        mallopt(option, value)
        for option, value in (
            (M_MMAP_THRESHOLD, LARGEST_INT),
            (M_TRIM_THRESHOLD, LARGEST_INT),
            (M_TOP_PAD, 2**26),
            # The backward pass runs in a thread of its own, which would get a heap that is too small for large blocks.
            (M_ARENA_MAX, 1),
        )
    )
