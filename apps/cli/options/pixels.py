"""How large a picture may be, and that its memory is given back: what `--max-pixels` does."""

from __future__ import annotations

import ctypes
import os

import click

LARGEST = 178_000_000  # Pillow itself opens none above
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3), as glibc's malloc.h numbers them
_LARGE = 8 << 20


def limit_pixels(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    """Until the command ends, for this process and its workers."""
    _return_large_blocks()
    if value is None:
        return
    from mue_edge.inputs.image import LIMIT_VARIABLE

    before = os.environ.get(LIMIT_VARIABLE)
    os.environ[LIMIT_VARIABLE] = str(value)

    def restore() -> None:
        del os.environ[LIMIT_VARIABLE]
        if before is not None:
            os.environ[LIMIT_VARIABLE] = before

    context.call_on_close(restore)


def _return_large_blocks() -> None:
    """Have glibc give freed blocks of 8 MiB and more back to the system, as Pillow's of a large picture.

    By itself it raises that size up to 32 MiB by what was freed, and keeps twice as much (mallopt(3),
    M_MMAP_THRESHOLD): some 80 MB stay after a picture of 20 million pixels.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # macOS, musl; Windows takes no None
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, _LARGE)
