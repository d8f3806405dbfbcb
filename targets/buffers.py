"""The named buffers of a caption as numpy arrays, and what the host does to them around a segment's run.

Every adapter that is fed from the host's memory shares this: constants, position biases, token ids, cache
rows and kept exit states go in and out here; how a segment runs is the adapter's own.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence

from mue_edge.arrays import Array, np
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import InputFileError
from mue_edge.loop.protocol import DECODER, HEAD_PORTS, Answer, Request, Store
from mue_edge.targets.tensors import Constants, SourceText, StepBiases


class Buffers:
    """`arrays` holds every buffer that exists by name; the adapter may give a mapping of its own.

    What the host has written since the adapter last asked stands in `written`.
    """

    def __init__(self, bundle: Bundle, arrays: MutableMapping[str, Array] | None = None) -> None:
        self.bundle = bundle
        self.arrays: MutableMapping[str, Array] = {} if arrays is None else arrays
        self.written: set[str] = set()
        layout = bundle.manifest.layout
        self._constants = Constants(bundle)
        self._biases = StepBiases(self._constants, layout.rows, layout.slots)
        self._step: dict[str, int] = {}

    def array(self, name: str, port: Port) -> Array:
        """The buffer of that name, made at first use; constants come from the bundle.

        Raises InputFileError if it has another shape than the port that it is for.
        """
        if name not in self.arrays:
            constant = name.partition("constant:")[2]
            self.arrays[name] = (
                self._constants.typed(constant, port.dtype) if constant else np.zeros(port.shape, port.dtype)
            )
        have = self.arrays[name].shape
        if have != port.shape:
            raise InputFileError(
                f"buffer {name} has shape {have}, a segment wants {port.shape}; export again"
            )
        return self.arrays[name]

    def set_pixels(self, pixels: object) -> None:
        """The picture to caption: [1, 3, H, W], in float32 or the port's type. Raises
        InputFileError for another shape."""
        port = self.bundle.manifest.segments[self.bundle.manifest.layout.picture.stem].inputs["pixels"]
        value = np.asarray(pixels)
        if value.shape != port.shape:
            raise InputFileError(f"pixels have shape {value.shape}, this bundle takes {port.shape}")
        self.array("pixels", port)
        self._write("pixels")[...] = value

    def set_source(self, ids: Sequence[int]) -> None:
        """The text that a text branch reads; its padding is hidden. Raises UsageError for one that is too
        long."""
        text = SourceText.of(self.bundle, self._constants, ids)
        for name, (port, value) in text.buffers.items():
            self.array(name, port)
            self._write(name)[...] = value
        self._biases.hide(text.hidden)
        self._step.pop("cross", None)

    def source(self, request: Request, port: str) -> str:
        """The buffer that an input port is fed from."""
        return _gathered(request) if request.gather and port == "x" else request.inputs[port]

    def before(self, request: Request) -> None:
        """What a run needs in its input buffers, which exist: ids, gathered rows, biases of the step."""
        if request.store and request.run == "head":
            self._keep(request.store[0])
        if request.ids:
            self._write(request.inputs["ids"])[:] = request.ids
        if request.gather:
            states = self.arrays[request.inputs["x"]]
            self._write(_gathered(request))[: len(request.gather)] = states[list(request.gather)]
        if request.position is not None:
            self._place(request)

    def after(self, request: Request) -> Answer:
        """Cache rows to their slots; the scalars that the loop asked for."""
        for store in request.store:
            if store.port == "kv_rows":
                self._store_rows(request, store)
        now = time.perf_counter()
        if request.read == HEAD_PORTS:
            ids, values, total, eos = (self.arrays[request.outputs[port]] for port in HEAD_PORTS)
            logprobs, eos_logprobs = (values - total[:, None]).tolist(), (eos - total).tolist()
            return Answer(candidates=list(zip(ids.tolist(), logprobs, eos_logprobs)), now=now)
        scalars = {port: self.arrays[request.outputs[port]].tolist() for port in request.read}
        return Answer(scalars, now=now)

    def _write(self, name: str) -> Array:
        self.written.add(name)
        return self.arrays[name]

    def _keep(self, store: Store) -> None:
        """Exit states of this step, for the layers that they skipped."""
        rows = self.arrays[store.port]
        if store.buffer not in self.arrays:
            slots = self.bundle.manifest.layout.slots
            self.arrays[store.buffer] = np.zeros((slots, rows.shape[1]), rows.dtype)
        self._write(store.buffer)[store.rows[0] : store.rows[-1] + 1] = rows

    def _store_rows(self, request: Request, store: Store) -> None:
        if store.buffer not in self.arrays:  # skipped by all steps so far: filled before it first runs
            decoder = f"{DECODER}.{request.run.partition('.')[2]}"
            self.array(store.buffer, self.bundle.manifest.segments[decoder].inputs["slots"])
        rows = self.arrays[request.outputs["kv_rows"]][:, : len(store.rows)]
        first, last = store.rows[0], store.rows[-1] + 1  # always contiguous
        self._write(store.buffer)[:, :, first:last] = rows.transpose(0, 2, 1, 3)

    def _place(self, request: Request) -> None:
        """Position biases of this step, if the buffers do not hold them already."""
        assert request.position is not None
        position, segment = request.position, int(request.run.partition(".")[2])
        if position.together:
            rows = self.arrays[request.inputs["own_bias"]].shape[-1]
            made = self._biases.together(segment, position, rows)
            for port, bias in zip(("slot_bias", "own_bias", "cross_bias"), made):
                self._write(request.inputs[port])[...] = bias
            return
        name = request.inputs["slot_bias"]
        self._write(name)[...] = self._biases.slot_bias(segment, position)
        if self._step.get(name) != position.step:
            self._write(request.inputs["own_bias"])[...] = self._biases.own_bias(segment, position.step)
            self._step[name] = position.step
        if self._step.get("cross") != position.step:
            self._write(request.inputs["cross_bias"])[...] = self._biases.cross_bias(position.step)
            self._step["cross"] = position.step


def _gathered(request: Request) -> str:
    """Gathered rows go in through a buffer of their own."""
    return f"{request.run.partition('.')[0]}_x"
