"""A stand-in for `cuda.bindings.runtime`: exactly the calls that the adapter makes, on a virtual stream.

Nothing that is enqueued happens before somebody waits for it, and then only as far as the wait reaches.
Memory is real, so that the adapter's own views of pinned memory work, and holds poison until it is written:
bytes 0xFF, which are NaN in every float type. A copy to the host poisons its destination at once. What a GPU
would answer with silence or a crash raises `Misuse`: pointers outside of live memory, memory that was freed
under a pending copy, allocation or waiting inside a capture.

Arguments, tuples and the types in them are those of cuda-bindings 12.9.10 and 13.5.0: test_bindings.py
compares them with the wheels. A call that fails returns None for every value.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

POISON = 0xFF
Work = Callable[[], None]


class Misuse(AssertionError):
    """A call that would go wrong on a GPU."""


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


OK = cudaError_t.cudaSuccess


@dataclass
class Event:
    """`behind`: how much of the stream was enqueued at its last record; None if it never was recorded."""

    flags: int
    behind: int | None = None


@dataclass
class Graph:
    work: list[tuple[str, Work]]


@dataclass
class GraphExec:
    """What was instantiated: only that is launched."""

    work: list[tuple[str, Work]]


@dataclass
class Properties:
    """cudaDeviceProp, as far as it is read."""

    name: bytes
    major: int
    minor: int
    totalGlobalMem: int


@dataclass
class Stream:
    """`done` of the items have happened."""

    items: list[tuple[str, Work]] = field(default_factory=list)
    done: int = 0
    captured: list[tuple[str, Work]] | None = None

    def __int__(self) -> int:
        return id(self)

    def run(self, until: int) -> None:
        while self.done < until:
            _, work = self.items[self.done]
            self.done += 1
            work()


@dataclass
class FakeCuda:
    """The module. `log` holds what the adapter did, in order: ("enqueue", what), ("wait", what was
    behind)."""

    driver: int = 12060
    sm: tuple[int, int] = (8, 7)
    devices: int = 1
    limit: int = 1 << 40
    status: cudaError_t = OK
    flags: int = 0
    log: list[tuple[str, str]] = field(default_factory=list)
    streams: dict[int, Stream] = field(default_factory=dict)
    device: dict[int, Any] = field(default_factory=dict)
    host: dict[int, Any] = field(default_factory=dict)

    __name__ = "cuda.bindings.runtime"
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode

    # --- the device
    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return self.status, self.devices if self.status == OK else None

    def cudaSetDeviceFlags(self, flags: int) -> tuple[Any, ...]:
        self.flags = flags
        return (OK,)

    def cudaGetDeviceProperties(self, number: int) -> tuple[Any, ...]:
        major, minor = self.sm
        return OK, Properties(b"Orin (fake)", major, minor, 8 << 30)

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return OK, self.driver

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        return OK, self.limit - self._used(), self.limit

    # --- memory
    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        self._not_in_capture("cudaMalloc")
        if self._used() + size > self.limit:
            return cudaError_t.cudaErrorMemoryAllocation, None
        return OK, _allocate(self.device, size)

    def cudaFree(self, pointer: int) -> tuple[Any, ...]:
        return self._release(self.device, pointer)

    def cudaMallocHost(self, size: int) -> tuple[Any, ...]:
        self._not_in_capture("cudaMallocHost")
        return OK, _allocate(self.host, size)

    def cudaFreeHost(self, pointer: int) -> tuple[Any, ...]:
        return self._release(self.host, pointer)

    # --- streams and events
    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        stream = Stream()
        self.streams[int(stream)] = stream
        return OK, stream

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:
        if stream.done < len(stream.items):
            raise Misuse("a stream was destroyed that had work left")
        del self.streams[int(stream)]
        return (OK,)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:
        self._not_in_capture("cudaStreamSynchronize")
        self.log.append(("wait", "stream"))
        stream.run(len(stream.items))
        return (OK,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return OK, Event(flags)

    def cudaEventDestroy(self, event: Event) -> tuple[Any, ...]:
        return (OK,)

    def cudaEventRecord(self, event: Event, stream: Stream) -> tuple[Any, ...]:
        event.behind = len(stream.items)
        event.stream = stream  # type: ignore[attr-defined]
        return (OK,)

    def cudaEventSynchronize(self, event: Event) -> tuple[Any, ...]:
        self._not_in_capture("cudaEventSynchronize")
        if event.behind is not None:
            stream: Stream = event.stream  # type: ignore[attr-defined]
            if stream.done < event.behind:
                self.log.append(("wait", stream.items[event.behind - 1][0]))
            stream.run(event.behind)
        return (OK,)

    # --- copies
    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: cudaMemcpyKind, stream: Stream) -> tuple[Any, ...]:
        return self.cudaMemcpy2DAsync(to, size, source, size, size, 1, kind, stream)

    def cudaMemcpy2DAsync(
        self,
        to: int,
        to_pitch: int,
        source: int,
        pitch: int,
        width: int,
        rows: int,
        kind: cudaMemcpyKind,
        stream: Stream,
    ) -> tuple[Any, ...]:
        if width > min(to_pitch, pitch):
            raise Misuse("rows of a copy overlap")
        sides = {1: (self.device, self.host), 2: (self.host, self.device), 3: (self.device, self.device)}
        there, here = sides[int(kind)]

        def copy() -> None:
            for row in range(rows):
                a = self._live(there, to + row * to_pitch, width)
                b = self._live(here, source + row * pitch, width)
                ctypes.memmove(a, b, width)

        for row in range(rows):
            self._live(here, source + row * pitch, width)
            place = self._live(there, to + row * to_pitch, width)
            if kind == cudaMemcpyKind.cudaMemcpyDeviceToHost:
                ctypes.memset(place, POISON, width)
        self.enqueue(stream, kind.name.removeprefix("cudaMemcpy"), copy)
        return (OK,)

    def cudaMemsetAsync(self, pointer: int, value: int, size: int, stream: Stream) -> tuple[Any, ...]:
        self._live(self.device, pointer, size)
        self.enqueue(stream, "zero", lambda: _set(self._live(self.device, pointer, size), value, size))
        return (OK,)

    # --- graphs
    def cudaStreamBeginCapture(self, stream: Stream, mode: Any) -> tuple[Any, ...]:
        if stream.captured is not None:
            raise Misuse("a capture inside a capture")
        stream.captured = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:
        captured, stream.captured = stream.captured, None
        if captured is None:
            raise Misuse("no capture to end")
        return OK, Graph(captured)

    def cudaGraphInstantiate(self, graph: Graph, flags: int) -> tuple[Any, ...]:
        return OK, GraphExec(graph.work)

    def cudaGraphDestroy(self, graph: Graph) -> tuple[Any, ...]:
        return (OK,)

    def cudaGraphExecDestroy(self, graph: GraphExec) -> tuple[Any, ...]:
        return (OK,)

    def cudaGraphLaunch(self, graph: GraphExec, stream: Stream) -> tuple[Any, ...]:
        if not isinstance(graph, GraphExec):
            raise Misuse("a graph was launched that was not instantiated")
        for what, work in graph.work:
            self.enqueue(stream, f"graph {what}", work)
        return (OK,)

    # --- for the stand-in of TensorRT, and for tests
    def enqueue(self, stream: Stream, what: str, work: Work) -> None:
        if stream.captured is not None:
            stream.captured.append((what, work))
            return
        self.log.append(("enqueue", what))
        stream.items.append((what, work))

    def memory(self, pointer: int, size: int) -> Any:
        """Live device memory as bytes that can be written."""
        return (ctypes.c_ubyte * size).from_address(self._live(self.device, pointer, size))

    def _live(self, side: dict[int, Any], pointer: int, size: int) -> int:
        for base, block in side.items():
            if base <= pointer and pointer + size <= base + len(block):
                return pointer
        raise Misuse(f"{size} bytes at {pointer:#x} are not in live {'host' if side is self.host else 'device'} memory")

    def _release(self, side: dict[int, Any], pointer: int) -> tuple[Any, ...]:
        if pointer not in side:
            raise Misuse(f"{pointer:#x} was not allocated, or freed before")
        block = side.pop(pointer)
        ctypes.memset(pointer, POISON, len(block))
        self._graveyard.append(block)  # its address is not given out again
        return (OK,)

    def _used(self) -> int:
        return sum(map(len, self.device.values()))

    def _not_in_capture(self, what: str) -> None:
        if any(stream.captured is not None for stream in self.streams.values()):
            raise Misuse(f"{what} inside a capture")

    _graveyard: list[Any] = field(default_factory=list)


def _allocate(side: dict[int, Any], size: int) -> int:
    block = (ctypes.c_ubyte * size)()
    ctypes.memset(block, POISON, size)
    side[ctypes.addressof(block)] = block
    return ctypes.addressof(block)


def _set(pointer: int, value: int, size: int) -> None:
    ctypes.memset(pointer, value, size)
