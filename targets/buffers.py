"""The named buffers of a caption as numpy arrays, and what the host does to them around a segment's run.

Adapters that are fed from the host's memory derive from this; how a segment runs is the adapter's own."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from mue_edge.arrays import Array, np
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import InputFileError
from mue_edge.loop.protocol import DECODER, Answer, Request, Store
from mue_edge.targets.tensors import HostInputs, answer_of


class Buffers(HostInputs):
    """arrays: every buffer that exists by name; the adapter may give a mapping of its own. written: the names
    of those that the host has written since the adapter last cleared it."""

    def __init__(self, bundle: Bundle, arrays: MutableMapping[str, Array] | None = None) -> None:
        super().__init__(bundle)
        self.arrays: MutableMapping[str, Array] = {} if arrays is None else arrays
        self.written: set[str] = set()

    def array(self, name: str, port: Port) -> Array:
        """The buffer of that name, made at first use; constants come from the bundle. Raises InputFileError
        if it has another shape than the port."""
        if name not in self.arrays:
            constant = name.partition("constant:")[2]
            self.arrays[name] = (
                self._constants.typed(constant, port.dtype) if constant else np.zeros(port.shape, port.dtype)
            )
        shape = self.arrays[name].shape
        if shape != port.shape:
            raise InputFileError(f"buffer {name} has shape {shape}, a segment wants {port.shape}; export again")
        return self.arrays[name]

    def fill(self, name: str, port: Port, value: object) -> None:
        if name not in self.arrays:
            self.array(name, port)
        self._write(name)[...] = value

    def after(self, request: Request) -> Answer:
        """What comes after a run: cache rows go to their slots, and the loop is told what it asked for."""
        self.store(request)
        return self.answer(request)

    def answer(self, request: Request, ran: tuple[tuple[str, float], ...] | None = None) -> Answer:
        """The scalars that the loop asked for."""
        return answer_of(request, {port: self.arrays[request.outputs[port]] for port in request.read}, ran=ran)

    def _write(self, name: str) -> Array:
        self.written.add(name)
        return self.arrays[name]

    def _keep(self, store: Store) -> None:
        rows = self.arrays[store.port]
        if store.buffer not in self.arrays:
            slots = self.bundle.manifest.layout.slots
            self.arrays[store.buffer] = np.zeros((slots, rows.shape[1]), rows.dtype)
        self._write(store.buffer)[store.rows[0] : store.rows[-1] + 1] = rows

    def _gather(self, request: Request, port: Port) -> None:
        states = self.arrays[request.inputs["x"]]
        self._write(source(request, "x"))[: len(request.gather)] = states[list(request.gather)]

    def _store_rows(self, request: Request, store: Store) -> None:
        slots, rows = self.rows_to_slots(request, store)
        slots[...] = rows

    def rows_to_slots(self, request: Request, store: Store) -> tuple[Array, Array]:
        """Where a run's cache rows go, [n, 2, rows, d], and the rows: views of the buffers."""
        # Skipped by all steps so far, the buffer is filled before the segment first runs.
        self.array(store.buffer, slots_port(self.bundle, request))
        rows = self.arrays[request.outputs["kv_rows"]][:, : len(store.rows)]
        first, last = store.rows[0], store.rows[-1] + 1  # always contiguous
        return self._write(store.buffer)[:, :, first:last], rows.transpose(0, 2, 1, 3)


def source(request: Request, port: str) -> str:
    """The buffer that an input port is fed from: gathered rows go in through one of their own."""
    gathered = request.gather and port == "x"
    return f"{request.run.partition('.')[0]}_x" if gathered else request.inputs[port]


def sources(request: Request) -> Mapping[str, str]:
    """Each input port's `source`."""
    return {port: source(request, port) for port in request.inputs} if request.gather else request.inputs


def slots_port(bundle: Bundle, request: Request) -> Port:
    """The port of the cache that a segment's rows go to, that of the decoder segment of its number."""
    return bundle.manifest.segments[f"{DECODER}.{request.run.partition('.')[2]}"].inputs["slots"]
