"""A picture as Core Video's pixel buffer, the form in which Core ML takes image inputs on a phone.

Called through ctypes. Unverified on hardware: tested against a stand-in of exactly these functions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mue_edge.errors import EnvironmentLacksError
from mue_edge.targets.buffers import Array

# kCVPixelFormatType_32BGRA, a code of four letters.
BGRA = int.from_bytes(b"BGRA", "big")


@contextmanager
def pixel_buffer(core_video: Any, picture: Array) -> Iterator[ctypes.c_void_p]:
    """A buffer with the picture (uint8 [1, 3, H, W], RGB), released at the end: who keeps it retains it.

    core_video: the library's functions. Raises EnvironmentLacksError if it makes none.
    """
    height, width = picture.shape[2:]
    bgra = np.full((height, width, 4), 255, np.uint8)
    bgra[..., :3] = picture[0, ::-1].transpose(1, 2, 0)
    buffer = ctypes.c_void_p()
    status = core_video.CVPixelBufferCreate(
        None, ctypes.c_size_t(width), ctypes.c_size_t(height), ctypes.c_uint32(BGRA), None,
        ctypes.byref(buffer),
    )  # fmt: skip
    if status:
        raise EnvironmentLacksError(f"Core Video made no buffer of {height} x {width} pixels ({status})")
    core_video.CVPixelBufferGetBaseAddress.restype = ctypes.c_void_p
    core_video.CVPixelBufferGetBytesPerRow.restype = ctypes.c_size_t
    try:
        core_video.CVPixelBufferLockBaseAddress(buffer, ctypes.c_uint64(0))
        start, row = (
            getattr(core_video, f"CVPixelBufferGet{what}")(buffer) for what in ("BaseAddress", "BytesPerRow")
        )
        for y in range(height):  # rows may be padded
            ctypes.memmove(start + y * row, bgra[y].ctypes.data, bgra[y].nbytes)
        core_video.CVPixelBufferUnlockBaseAddress(buffer, ctypes.c_uint64(0))
        yield buffer
    finally:
        core_video.CVPixelBufferRelease(buffer)
