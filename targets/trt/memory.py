"""Memory of the adapter: device buffers by name, and pinned host memory that is numpy's to read."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Port
from mue_edge.targets.trt.cuda import Cuda


@dataclass(frozen=True)
class Buffer:
    """Device memory of a port's shape and type."""

    pointer: int
    port: Port

    @property
    def bytes(self) -> int:
        return size(self.port)

    @property
    def row(self) -> int:
        """Bytes from one row of the first axis to the next."""
        return self.bytes // self.port.shape[0]


def size(port: Port) -> int:
    return math.prod(port.shape) * np.dtype(port.dtype).itemsize


class Pinned:
    """Page-locked host memory as an array; the device copies from and to it without a stop on the way."""

    def __init__(self, cuda: Cuda, port: Port) -> None:
        self._cuda, self.bytes = cuda, size(port)
        self.pointer = cuda.pinned(self.bytes)
        raw = (ctypes.c_byte * self.bytes).from_address(self.pointer)
        self.array: Array = np.frombuffer(memoryview(raw), np.dtype(port.dtype)).reshape(port.shape)

    def free(self) -> None:
        self._cuda.call("cudaFreeHost", self.pointer)


class Staging:
    """Host values on their way into a device buffer. The copy is asynchronous: `fill` waits for its own last
    copy, which is long over in a running loop, before it changes the pinned side."""

    def __init__(self, cuda: Cuda, stream: Any, buffer: Buffer) -> None:
        self._cuda, self._stream, self._buffer = cuda, stream, buffer
        self._pinned = Pinned(cuda, buffer.port)
        self._copied = cuda.event()

    def fill(self, value: object) -> None:
        """Copy a value that broadcasts to the buffer's shape, cast to its type."""
        self._cuda.call("cudaEventSynchronize", self._copied)
        self._pinned.array[...] = value
        self._cuda.upload(self._buffer.pointer, self._pinned.pointer, self._pinned.bytes, self._stream)
        self._cuda.call("cudaEventRecord", self._copied, self._stream)

    def free(self) -> None:
        """After the last copy, which reads the pinned side."""
        self._cuda.call("cudaEventSynchronize", self._copied)
        self._cuda.call("cudaEventDestroy", self._copied)
        self._pinned.free()


class Readback:
    """Device values on their way to the host: copies of some buffers, and the event after which they are
    there."""

    def __init__(self, cuda: Cuda, stream: Any, buffers: dict[str, Buffer]) -> None:
        self._cuda, self._stream, self._buffers = cuda, stream, buffers
        self._pinned = {port: Pinned(cuda, buffer.port) for port, buffer in buffers.items()}
        self._arrived = cuda.event()

    def start(self) -> None:
        """Enqueue the copies of what the buffers hold at this point of the stream."""
        for port, buffer in self._buffers.items():
            self._cuda.download(self._pinned[port].pointer, buffer.pointer, buffer.bytes, self._stream)
        self._cuda.call("cudaEventRecord", self._arrived, self._stream)

    def wait(self) -> dict[str, Array]:
        """The values, once they are there; they stand until the next `start`."""
        self._cuda.call("cudaEventSynchronize", self._arrived)
        return {port: pinned.array for port, pinned in self._pinned.items()}

    def free(self) -> None:
        self._cuda.call("cudaEventDestroy", self._arrived)
        for pinned in self._pinned.values():
            pinned.free()
