"""Memory that is freed stays with the process: it is wanted again for the next batch.

By default glibc gives large blocks back to the system and asks for them anew, and the first touch of each page costs a
fault: 4,500 in every update of the demo's network, a sixth of its CPU time.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGE = (1 << 30, 1 << 25)  # bytes; older glibc take no more than the latter


def keep_freed_memory() -> None:
    """For this process from now on; nothing happens where the C library has no mallopt (musl, macOS, Windows)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        any(mallopt(M_MMAP_THRESHOLD, size) for size in LARGE)
