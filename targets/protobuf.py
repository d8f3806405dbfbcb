"""The wire format of protocol buffers, read field by field without generated classes.

Files that came from outside are walked with this: every length is checked against what is there.
"""

from __future__ import annotations

from collections.abc import Iterator

# What a field holds: a number, or the bytes of a message, a string or packed numbers.
Field = int | memoryview
_FIXED = {1: 8, 5: 4}


def fields(data: memoryview) -> Iterator[tuple[int, Field]]:
    """(number, value) of every field of a message, in order; fixed-width values are given as their bytes.

    Raises ValueError or IndexError for what is no message.
    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = varint(data, at)
            yield key >> 3, number
            continue
        if kind == 2:
            length, at = varint(data, at)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise ValueError(f"unknown wire type {kind}")
        if at + length > len(data):
            raise ValueError("a field is longer than the file")
        yield key >> 3, data[at : at + length]
        at += length


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
