"""What every adapter needs of a bundle on the host's side: its constants, a step's position biases, and what
the host writes into buffers before segments run."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mue_edge.arrays import Array, Floats, np
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Constant, Port
from mue_edge.errors import InputFileError
from mue_edge.inputs.statements import check_length
from mue_edge.loop.protocol import HEAD_PORTS, MASKED, TEXT, Answer, Position, Request, Store


class Constants:
    """The bundle's constants, read when first used; tables are expanded once."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._files: dict[str, Path] = {}
        self._expanded: dict[str, Floats] = {}

    def __getitem__(self, name: str) -> Floats:
        if name not in self._expanded:
            self._expanded[name] = self._expand(name, "float32")
        return self._expanded[name]

    def typed(self, name: str, dtype: str) -> Array:
        """A constant in another type than it is stored in, made anew."""
        return self[name] if dtype == "float32" else self._expand(name, dtype)

    def _expand(self, name: str, dtype: str) -> Array:
        constant = self._bundle.manifest.constants[name]
        rows = self._read(constant)
        if dtype != constant.dtype and dtype != "float32":
            rows = rows.astype(dtype)  # the table, before it grows
        if constant.index is None:
            return rows
        index = self._read(self._bundle.manifest.constants[constant.index])
        table: Array = np.take(rows.transpose(0, 2, 1), index, 2)
        return table

    def _read(self, constant: Constant) -> Array:
        if constant.file not in self._files:  # its hash is checked once
            self._files[constant.file] = self._bundle.file(constant.file)
        dtype = np.dtype(constant.dtype)
        with self._files[constant.file].open("rb") as file:
            file.seek(constant.offset)
            raw = file.read(math.prod(constant.shape) * dtype.itemsize)
        return np.array(np.frombuffer(raw, dtype)).reshape(constant.shape)


class StepBiases:
    """The decoder's position biases and masks of one step, from self_bias.j and cross_bias. `hidden` [S],
    MASKED where the source text is padding, is added to cross_bias."""

    def __init__(self, constants: Constants, slots: int) -> None:
        self._constants, self._slots = constants, slots
        self._kept: dict[tuple[str, int, int], Floats] = {}
        self.hidden: Floats | None = None

    def bias(self, port: str, segment: int, position: Position, rows: int) -> Floats:
        """The bias of a port with `rows` rows: slot_bias [n, H, Q, M] is the position bias of each ancestor's
        slot, elsewhere MASKED; own_bias [n, H, Q, Q] lets a query see itself, and where they go together
        the queries before it; cross_bias [H, Q or 1, S]. What follows from the step alone is kept."""
        if port == "cross_bias":
            return self._cross(position, rows)
        compute = self._slot if port == "slot_bias" else self._own
        if position.together or (port == "slot_bias" and rows > 1):
            return compute(segment, position, rows)
        key = (port, segment, position.step)
        if key not in self._kept:
            self._kept[key] = compute(segment, position, rows)
        return self._kept[key]

    def _slot(self, segment: int, position: Position, rows: int) -> Floats:
        table = self._constants[f"self_bias.{segment}"]
        out = np.full((*table.shape[:2], rows, self._slots), MASKED, np.float32)
        for row, ancestors in enumerate(position.ancestry):
            slots = list(ancestors[: position.step])
            step = position.step + row * position.together
            out[:, :, row, slots] = table[:, :, step, : len(slots)]
        return out

    def _own(self, segment: int, position: Position, rows: int) -> Floats:
        table, first = self._constants[f"self_bias.{segment}"], position.step
        out = np.full((*table.shape[:2], rows, rows), MASKED, np.float32)
        for row in range(len(position.ancestry) if position.together else rows):
            step, begin = (first + row, 0) if position.together else (first, row)
            out[:, :, row, begin : row + 1] = table[:, :, step, step - row + begin : step + 1]
        return out

    def _cross(self, position: Position, rows: int) -> Floats:
        table = self._constants["cross_bias"]
        if not position.together:
            one: Floats = table[position.step][:, None]
            return one if self.hidden is None else one + self.hidden
        out = np.zeros((table.shape[1], rows, table.shape[2]), np.float32)
        for row in range(len(position.ancestry)):
            out[:, row] = table[position.step + row]
        return out


BIASES = ("slot_bias", "own_bias", "cross_bias")


class HostInputs(ABC):
    """What the host writes into a bundle's buffers, wherever an adapter has these."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._constants = Constants(bundle)
        self._biases = StepBiases(self._constants, bundle.manifest.layout.slots)
        # Buffer → what the biases in it are of.
        self._positions: dict[str, object] = {}

    @abstractmethod
    def fill(self, name: str, port: Port, value: object) -> None:
        """Write a value that broadcasts to the port's shape into a buffer, made at first use."""

    @abstractmethod
    def _keep(self, store: Store) -> None:
        """Copy exit states of this step to the buffer of those that layers skipped."""

    @abstractmethod
    def _gather(self, request: Request, port: Port) -> None:
        """Copy exit states of the rows to be filled to the buffer of that port, one after the other."""

    @abstractmethod
    def _store_rows(self, request: Request, store: Store) -> None:
        """Copy kv_rows [n, rows, 2, d] to slots [n, 2, M, d] of the cache."""

    def before(self, request: Request) -> None:
        """What comes before a run: exit states are kept, and its inputs written."""
        self.keep(request)
        self.write_inputs(request)

    def keep(self, request: Request) -> None:
        """Keep the states that the head reads, if its request says so."""
        if request.store and request.run == "head":
            self._keep(request.store[0])

    def write_inputs(self, request: Request) -> None:
        """Write what a run needs in its input buffers: ids, gathered rows, biases."""
        ports = self.bundle.manifest.segments[request.run].inputs
        if request.ids:
            self.fill(request.inputs["ids"], ports["ids"], request.ids)
        if request.gather:
            self._gather(request, ports["x"])
        if request.position is not None:
            self._write_biases(request, request.position, ports)

    def store(self, request: Request) -> None:
        """Put the cache rows that a run has computed into their slots."""
        for store in request.store:
            if store.port == "kv_rows":
                self._store_rows(request, store)

    def set_pixels(self, pixels: object) -> None:
        """The picture to caption: [1, 3, H, W], float32 or the port's type. Raises InputFileError for another
        shape."""
        port = self.bundle.manifest.segments[self.bundle.manifest.layout.picture.stem].inputs["pixels"]
        value = np.asarray(pixels)
        if value.shape != port.shape:
            raise InputFileError(f"pixels have shape {value.shape}, this bundle takes {port.shape}")
        self.fill("pixels", port, value)

    def set_source(self, ids: Sequence[int]) -> None:
        """The ids of the text that a text branch reads; its padding is hidden. Raises UsageError for too
        many."""
        manifest = self.bundle.manifest
        inputs = manifest.segments[manifest.layout.text_stem].inputs
        length = inputs["ids"].shape[0]
        check_length(ids, length)
        padding = length - len(ids)
        live = np.array([1.0] * len(ids) + [0.0] * padding, np.float32)
        masked = [0.0] * len(ids) + [MASKED] * padding
        self.fill("source_ids", inputs["ids"], np.array([*ids, *[manifest.search.pad] * padding]))
        self.fill("source_live", inputs["live"], live.reshape(1, length, 1))
        for stage in (stage for stack in manifest.layout.of_source(TEXT) for stage in stack.stages):
            name, port = stage.constants["bias"], manifest.segments[stage.name].inputs["bias"]
            self.fill(name, port, self._constants[name] + np.array(masked, np.float32))
        patches = self._constants["cross_bias"].shape[2] - length
        self._biases.hidden = np.array([0.0] * patches + masked, np.float32)
        self._positions.clear()

    def biases(self, request: Request, position: Position) -> dict[str, Floats]:
        """Buffer → the step's position bias that a segment reads there."""
        segment = int(request.run.partition(".")[2])
        rows = self.bundle.manifest.segments[request.run].inputs["own_bias"].shape[-1]
        return {request.inputs[port]: self._biases.bias(port, segment, position, rows) for port in BIASES}

    def _write_biases(self, request: Request, position: Position, ports: Mapping[str, Port]) -> None:
        """Position biases of a step, where the buffers do not hold them already."""
        segment, rows = int(request.run.partition(".")[2]), ports["own_bias"].shape[-1]
        for port in BIASES:
            name = request.inputs[port]
            key = position if port == "slot_bias" or position.together else position.step
            if self._positions.get(name) != key:
                self.fill(name, ports[port], self._biases.bias(port, segment, position, rows))
                self._positions[name] = key


def answer_of(
    request: Request,
    values: Mapping[str, Any],
    *,
    ran_ahead: bool = False,
    ran: tuple[tuple[str, float], ...] | None = None,
) -> Answer:
    """What the loop is told of a segment's outputs: values of output ports, as arrays or torch tensors."""
    now = time.perf_counter()
    if request.read != HEAD_PORTS:
        scalars = {port: values[port].tolist() for port in request.read}
        return Answer(scalars, now=now, ran_ahead=ran_ahead, ran=ran)
    ids, logits, total, eos = (values[port] for port in HEAD_PORTS)
    rows = zip(ids.tolist(), (logits - total[:, None]).tolist(), (eos - total).tolist())
    return Answer(candidates=list(rows), now=now, ran_ahead=ran_ahead, ran=ran)
