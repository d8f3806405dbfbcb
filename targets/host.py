"""The host target: ONNX Runtime on a CPU.

One session a segment, created at first use. All buffers are made once and bound for good: a call
copies nothing but the few scalars that it reads and one cache row. Sessions share one memory
arena, do not spin while idle, and keep their weights memory-mapped.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mue_edge.bundle import Bundle, Port
from mue_edge.errors import EnvironmentLacksError, InputFileError, missing_extra
from mue_edge.loop import HEAD_PORTS, Answer, Request, Store
from mue_edge.targets import onnx_guard
from mue_edge.targets.tensors import Constants, StepBiases

Array = NDArray[Any]
_arena_registered = False


def default_threads() -> int:
    """Physical cores are what arithmetic scales with; half of more than two logical ones is a fair guess."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return available if available <= 2 else (available + 1) // 2


class HostRuntime:
    """A bundle on ONNX Runtime. Not for several threads at once: buffers are shared by all calls."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        self._ort = _onnxruntime()
        self.bundle, self.threads = bundle, threads or default_threads()
        layout = bundle.manifest.layout
        self._constants = Constants(bundle)
        self._biases = StepBiases(self._constants, layout.rows, layout.slots)
        self._rows = layout.rows
        self._sessions: dict[str, Any] = {}
        self._buffers: dict[str, Any] = {}
        self._arrays: dict[str, Array] = {}
        self._bindings: dict[tuple[str, ...], Any] = {}
        self._step: dict[str, int] = {}

    def set_pixels(self, pixels: object) -> None:
        """The picture to caption: float32 [1, 3, H, W]."""
        port = self.bundle.manifest.segments["stem"].inputs["pixels"]
        value = np.asarray(pixels, np.float32)
        if value.shape != port.shape:
            raise InputFileError(f"pixels have shape {value.shape}, this bundle takes {port.shape}")
        self._buffer("pixels", port)
        self._arrays["pixels"][...] = value

    def execute(self, request: Request) -> Answer:
        """Run one segment; see `loop.Request`."""
        key = (request.run, *request.inputs.values())
        binding = self._bindings.get(key) or self._bind(key, request)
        if request.store and request.run == "head":
            self._keep(request.store[0])
        if request.ids:
            self._arrays[request.inputs["ids"]][:] = request.ids
        if request.gather:
            states, chunk = self._arrays[request.inputs["x"]], self._arrays["fill_x"]
            chunk[: len(request.gather)] = states[list(request.gather)]
        if request.position is not None:
            self._place(request)
        self._sessions[request.run].run_with_iobinding(binding)
        for store in request.store:
            if store.port == "kv_rows":
                self._store_rows(request, store)
        return self._answer(request)

    def close(self) -> None:
        """Drop sessions and buffers."""
        for held in (self._bindings, self._sessions, self._buffers, self._arrays):
            held.clear()

    def _answer(self, request: Request) -> Answer:
        now = time.perf_counter()
        if request.read == HEAD_PORTS:
            ids, values, total, eos = (self._arrays[request.outputs[port]] for port in HEAD_PORTS)
            logprobs, eos_logprobs = (values - total[:, None]).tolist(), (eos - total).tolist()
            return Answer(candidates=list(zip(ids.tolist(), logprobs, eos_logprobs)), now=now)
        scalars = {port: self._arrays[request.outputs[port]].tolist() for port in request.read}
        return Answer(scalars, now=now)

    def _keep(self, store: Store) -> None:
        """Exit states of this step, for the layers that they skipped."""
        rows = self._arrays[store.port]
        states = self._arrays.get(store.buffer)
        if states is None:
            slots = self.bundle.manifest.layout.slots
            states = self._arrays[store.buffer] = np.zeros((slots, rows.shape[1]), rows.dtype)
        states[store.rows[0] : store.rows[-1] + 1] = rows

    def _store_rows(self, request: Request, store: Store) -> None:
        if store.buffer not in self._arrays:  # skipped by all steps so far: filled before it first runs
            decoder = f"decoder.{request.run.partition('.')[2]}"
            self._buffer(store.buffer, self.bundle.manifest.segments[decoder].inputs["slots"])
        rows = self._arrays[request.outputs["kv_rows"]][:, : len(store.rows)]
        first, last = store.rows[0], store.rows[-1] + 1  # always contiguous
        self._arrays[store.buffer][:, :, first:last] = rows.transpose(0, 2, 1, 3)

    def _place(self, request: Request) -> None:
        """Position biases of this step, if the buffers do not hold them already."""
        assert request.position is not None
        position, segment = request.position, int(request.run.partition(".")[2])
        name = request.inputs["slot_bias"]
        self._arrays[name][...] = self._biases.slot_bias(segment, position)
        if self._step.get(name) != position.step:
            self._arrays[request.inputs["own_bias"]][...] = self._biases.own_bias(segment, position.step)
            self._step[name] = position.step
        if self._step.get("cross") != position.step:
            self._arrays[request.inputs["cross_bias"]][...] = self._biases.cross_bias(position.step)
            self._step["cross"] = position.step

    def _bind(self, key: tuple[str, ...], request: Request) -> Any:
        session = self._session(request.run)
        segment = self.bundle.manifest.segments[request.run]
        binding = session.io_binding()
        for port, buffer in request.inputs.items():
            # Gathered rows go in through a buffer of their own.
            name = "fill_x" if request.gather else buffer
            binding.bind_ortvalue_input(port, self._buffer(name, segment.inputs[port]))
        for port in segment.outputs:
            name = request.outputs.get(port, f"unused.{port}")
            binding.bind_ortvalue_output(port, self._buffer(name, segment.outputs[port]))
        self._bindings[key] = binding
        return binding

    def _buffer(self, name: str, port: Port) -> Any:
        """The tensor of that name, made at first use; constants come from the bundle."""
        if name not in self._buffers:
            constant = name.partition("constant:")[2]
            array = self._constants[constant] if constant else np.zeros(port.shape, port.dtype)
            value = self._ort.OrtValue.ortvalue_from_numpy(array)
            self._buffers[name], self._arrays[name] = value, array
            if array.size and value.data_ptr() != array.ctypes.data:
                raise EnvironmentLacksError(
                    "this ONNX Runtime copies bound arrays; install onnxruntime>=1.20"
                )
        have = self._arrays[name].shape
        if have != port.shape:
            raise InputFileError(
                f"buffer {name} has shape {have}, a segment wants {port.shape}; export again"
            )
        return self._buffers[name]

    def _session(self, name: str) -> Any:
        if name not in self._sessions:
            entry = self.bundle.manifest.segments[name]
            onnx_guard.check(self.bundle, entry.file)
            path = self.bundle.path / entry.file
            try:
                self._sessions[name] = self._ort.InferenceSession(
                    str(path), self._options(entry.stack == "decoder" or name == "head"),
                    providers=["CPUExecutionProvider"],
                )  # fmt: skip
            except Exception as problem:  # ONNX Runtime's own exceptions share no base class
                raise InputFileError(f"ONNX Runtime cannot load {entry.file}: {problem}") from problem
        return self._sessions[name]

    def _options(self, decoder: bool) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if decoder and self._rows == 1:
            # A matrix-vector product gains nothing from packing and would copy the mapped weights.
            options.add_session_config_entry("session.disable_prepacking", "1")
        return options


def _onnxruntime() -> Any:
    global _arena_registered
    try:
        import onnxruntime as ort
    except ImportError as problem:
        raise missing_extra("onnxruntime", "host") from problem
    if not _arena_registered:
        kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
        info = ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT)
        ort.create_and_register_allocator(info, None)
        _arena_registered = True
    return ort


def open_runtime(bundle: Bundle, threads: int | None = None) -> HostRuntime:
    """The adapter's entry point for `mue_edge.targets.open_runtime`."""
    return HostRuntime(bundle, threads)
