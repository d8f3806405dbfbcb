"""A picture as Core Video's pixel buffer, the form in which Core ML takes image inputs on a phone, by ctypes.

Unverified on hardware: tested against a stand-in of exactly these functions."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mue_edge.arrays import Array
from mue_edge.errors import EnvironmentLacksError

# kCVPixelFormatType_32BGRA, a code of four letters.
BGRA = int.from_bytes(b"BGRA", "big")


@contextmanager
def pixel_buffer(core_video: Any, picture: Array) -> Iterator[ctypes.c_void_p]:
    """A buffer with the picture (uint8 [1, 3, H, W], RGB), released at the end: who keeps it retains it.
    core_video: the library's functions. Raises EnvironmentLacksError if it makes none."""
    height, width = picture.shape[2:]
    planes, size = picture.tobytes(), height * width
    bgra = bytearray(b"\xff") * (4 * size)
    for at, channel in enumerate((2, 1, 0)):
        bgra[at::4] = planes[channel * size : (channel + 1) * size]
    buffer = ctypes.c_void_p()
    status = core_video.CVPixelBufferCreate(
        None, ctypes.c_size_t(width), ctypes.c_size_t(height), ctypes.c_uint32(BGRA), None, ctypes.byref(buffer)
    )
    if status:
        raise EnvironmentLacksError(f"Core Video made no buffer of {height} x {width} pixels ({status})")
    core_video.CVPixelBufferGetBaseAddress.restype = ctypes.c_void_p
    core_video.CVPixelBufferGetBytesPerRow.restype = ctypes.c_size_t
    try:
        core_video.CVPixelBufferLockBaseAddress(buffer, ctypes.c_uint64(0))
        start, row = (getattr(core_video, f"CVPixelBufferGet{what}")(buffer) for what in ("BaseAddress", "BytesPerRow"))
        for y in range(height):  # rows may be padded
            line = bytes(bgra[4 * width * y : 4 * width * (y + 1)])
            ctypes.memmove(start + y * row, line, len(line))
        core_video.CVPixelBufferUnlockBaseAddress(buffer, ctypes.c_uint64(0))
        yield buffer
    finally:
        core_video.CVPixelBufferRelease(buffer)
