"""A bundle on TensorRT: one stream, buffers made once, exit tests hidden behind the next segment.

Nothing waits but a read of scores. Where the loop offers the next request (`then`), that is enqueued before
the scores of this one are waited for: if nothing exits, the GPU has been busy all the while. Two buffers a
stack, which segments read and write in turn, are enough for one segment of look-ahead: the state at which a
stack is left is the one that the segment ahead only reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import InputFileError
from mue_edge.loop.protocol import HEAD_PORTS, Answer, Request, Store
from mue_edge.loop.signals import PORTS
from mue_edge.targets.buffers import slots_port, source
from mue_edge.targets.tensors import HostInputs, answer_of
from mue_edge.targets.trt.library import Library
from mue_edge.targets.trt.memory import Buffer, Readback, Staging, size
from mue_edge.targets.trt.segments import Bound, Engines


class _Launched(NamedTuple):
    """A request that is on the stream, and where its scalars arrive."""

    work: tuple[Any, ...]
    reads: Readback | None


class TensorRTRuntime(HostInputs):
    """A bundle on the installed TensorRT. Not for several threads at once: buffers are shared by all calls.
    look_ahead: run `then` before the scores are there. stepwise: wait for every segment, for profiles. Raises
    EnvironmentLacksError and InputFileError: see `Library`, `Engines`."""

    def __init__(self, bundle: Bundle, library: Library | None = None, *, look_ahead: bool = True) -> None:
        super().__init__(bundle)
        self.look_ahead, self.stepwise = look_ahead, False
        self.library = library or Library()
        self.library.check(bundle)
        self._cuda = self.library.cuda
        self.engines = Engines(bundle, self.library)
        self.stream = self._cuda.stream()
        self._buffers: dict[str, Buffer] = {}
        self._staging: dict[str, Staging] = {}
        self._bound: dict[tuple[Any, ...], Bound] = {}
        self._reads: dict[tuple[str, ...], list[Readback]] = {}
        self._ahead: _Launched | None = None

    def set_pixels(self, pixels: object) -> None:
        """The picture to caption: float32 [1, 3, H, W]. Raises InputFileError for another shape."""
        self._ahead = None
        super().set_pixels(pixels)

    def fill(self, name: str, port: Port, value: object) -> None:
        """Enqueue a copy of a value that broadcasts to the buffer's shape."""
        if name not in self._staging:
            self._staging[name] = Staging(self._cuda, self.stream, self._buffer(name, port))
        self._staging[name].fill(value)

    def execute(self, request: Request) -> Answer:
        """Enqueue one segment, unless it ran ahead, and wait for what the request reads; see
        `protocol.Request`."""
        launched, self._ahead = self._ahead, None
        if launched is None or launched.work != _work(request):
            launched = self._launch(request, bool(request.read))
        if request.then is not None and request.read and self.look_ahead and not self.stepwise:
            self._ahead = self._launch(request.then, True)
        values: Mapping[str, Array] = {}
        if request.read:
            assert launched.reads is not None
            values = launched.reads.wait()
        elif self.stepwise:
            self._cuda.call("cudaStreamSynchronize", self.stream)
        return answer_of(request, values, ran_ahead=self._ahead is not None)

    def plainly_run(self) -> dict[str, str]:
        """Segments that could not be captured as CUDA graphs, and why."""
        return {bound.name: bound.plain for bound in self._bound.values() if bound.plain}

    def buffer_bytes(self) -> int:
        """Device memory of all buffers so far."""
        return sum(buffer.bytes for buffer in self._buffers.values())

    def set_waits(self, waits: str) -> None:
        """How to wait for scores from now on: of `cuda.WAITS`."""
        self._cuda.call("cudaStreamSynchronize", self.stream)
        self._ahead = None
        self._free_reads()
        self._cuda.set_waits(waits)

    def close(self) -> None:
        """Wait for the stream, then give everything back."""
        self._cuda.call("cudaStreamSynchronize", self.stream)
        for bound in self._bound.values():
            bound.close()
        for staging in self._staging.values():
            staging.free()
        self._free_reads()
        for buffer in self._buffers.values():
            self._cuda.call("cudaFree", buffer.pointer)
        for dropped in (self._bound, self._staging, self._buffers):
            dropped.clear()
        self.engines.close()
        self._cuda.call("cudaStreamDestroy", self.stream)

    def _free_reads(self) -> None:
        for reads in self._reads.values():
            for read in reads:
                read.free()
        self._reads.clear()

    def _launch(self, request: Request, read: bool) -> _Launched:
        segment = self.bundle.manifest.segments[request.run]
        bound = self._bind(request)
        self.before(request)
        bound.enqueue()
        self.store(request)
        tested = tuple(port for port in PORTS if port in segment.outputs)
        ports = HEAD_PORTS if request.run == "head" else tested
        reads = None
        if read and ports:
            reads = self._readback({port: request.outputs[port] for port in ports})
            reads.start()
        return _Launched(_work(request), reads)

    def _bind(self, request: Request) -> Bound:
        key = (request.run, *request.inputs.values(), *request.outputs.values())
        if key not in self._bound:
            segment = self.bundle.manifest.segments[request.run]
            buffers = {port: self._buffer(source(request, port), segment.inputs[port]) for port in request.inputs}
            for port, shape in segment.outputs.items():
                name = request.outputs.get(port, f"unused.{request.run}.{port}")
                buffers[port] = self._buffer(name, shape)
            self._bound[key] = self.engines.bind(request.run, buffers, self.stream)
        return self._bound[key]

    def _buffer(self, name: str, port: Port) -> Buffer:
        """The device buffer of that name, made at first use: zero, or a constant of the bundle."""
        if name not in self._buffers:
            buffer = Buffer(self._cuda.malloc(size(port)), port)
            self._buffers[name] = buffer
            constant = name.partition("constant:")[2]
            if constant:
                self.fill(name, port, self._constants[constant])
                self._staging.pop(name).free()
            else:
                self._cuda.zero(buffer.pointer, buffer.bytes, self.stream)
        buffer = self._buffers[name]
        if buffer.port != port:
            raise InputFileError(f"buffer {name} is {buffer.port}, a segment wants {port}; export again")
        return buffer

    def _gather(self, request: Request, port: Port) -> None:
        states, chunk = self._buffers[request.inputs["x"]], self._buffer(source(request, "x"), port)
        for i, row in enumerate(request.gather):
            to, origin = chunk.pointer + i * chunk.row, states.pointer + row * states.row
            self._cuda.copy(to, origin, chunk.row, self.stream)

    def _keep(self, store: Store) -> None:
        rows = self._buffers[store.port]
        slots = self.bundle.manifest.layout.slots
        states = self._buffer(store.buffer, Port((slots, *rows.port.shape[1:]), rows.port.dtype))
        first, count = store.rows[0], len(store.rows)  # always contiguous
        self._cuda.copy(states.pointer + first * states.row, rows.pointer, count * rows.row, self.stream)

    def _store_rows(self, request: Request, store: Store) -> None:
        slots = self._buffer(store.buffer, slots_port(self.bundle, request))
        rows = self._buffers[request.outputs["kv_rows"]]
        layers, _, capacity, width = slots.port.shape
        one = width * np.dtype(slots.port.dtype).itemsize
        first, count = store.rows[0], len(store.rows)  # always contiguous
        for layer in range(layers):  # a copy of strided rows for each layer's K and V
            for i in range(2):
                to = slots.pointer + ((layer * 2 + i) * capacity + first) * one
                origin = rows.pointer + layer * rows.row + i * one
                self._cuda.copy_rows(to, one, origin, 2 * one, one, count, self.stream)

    def _readback(self, names: Mapping[str, str]) -> Readback:
        """Of those buffers (port → name). Two take turns: for the request that is waited for and the one
        ahead."""
        key = tuple(names.values())
        if key not in self._reads:
            buffers = {port: self._buffers[name] for port, name in names.items()}
            self._reads[key] = [Readback(self._cuda, self.stream, buffers) for _ in range(2)]
        self._reads[key].reverse()
        return self._reads[key][0]


def _work(request: Request) -> tuple[Any, ...]:
    """What makes two requests the same work, whatever is read of it and comes after it."""
    r = request
    return (r.run, dict(r.inputs), dict(r.outputs), r.ids, r.gather, r.store, r.position)
