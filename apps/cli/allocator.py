"""What the C library keeps of memory that was freed."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3), as glibc's malloc.h numbers them
_LARGE = 8 << 20


def return_large_blocks() -> None:
    """Have glibc give freed blocks of 8 MiB and more back to the system, as Pillow's of a large picture.

    By itself it raises that size up to 32 MiB by what was freed, and keeps twice as much (mallopt(3),
    M_MMAP_THRESHOLD): some 80 MB stay after a picture of 20 million pixels. Does nothing where there is no
    mallopt.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl; Windows takes no None
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, _LARGE)
