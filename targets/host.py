"""The host target: ONNX Runtime on a CPU.

One session a segment, created at first use. All buffers are made once and bound for good: a call
copies nothing but the few scalars that it reads and one cache row. Sessions share one memory
arena, do not spin while idle, and keep their weights memory-mapped.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import EnvironmentLacksError, InputFileError, missing_extra
from mue_edge.loop.protocol import DECODER, Answer, Request
from mue_edge.machine import default_threads
from mue_edge.targets import onnx_guard
from mue_edge.targets.buffers import Buffers

# Q/DQ pairs are computed as the graph says: ONNX Runtime's fused form of a half-precision convolution between
# them gives other values.
AS_WRITTEN = ("session.disable_quant_qdq", "1")
# With "1", int8 weights become uint8 when a session is made, on any x86: slower products, but exact sums.
EXACT_SUMS = "session.x64quantprecision"
# A graph y [m, 16] = MatMulInteger(a [m, 64] uint8, b [64, 16] int8), for devices without onnx.
_PRODUCT = bytes.fromhex(
    "08083a5e0a180a01610a0162120179220d4d61744d756c496e74656765721201675a140a0161120f0a0d080212090a0312016d0a"
    "0208405a130a0162120e0a0c080312080a0208400a02081062140a0179120f0a0d080612090a0312016d0a02081042040a00100d"
)
_arena_registered = False


class HostRuntime:
    """A bundle on ONNX Runtime. Not for several threads at once: buffers are shared by all calls.

    providers: names of ONNX Runtime's execution providers in the order of preference; those that it was not
    built with are left out.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None = None, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        self._ort = _onnxruntime()
        self._providers = [name for name in providers if name in self._ort.get_available_providers()]
        self.bundle, self.threads = bundle, threads or default_threads()
        self._rows = bundle.manifest.layout.rows
        self._buffers = Buffers(bundle)
        self._sessions: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._bindings: dict[tuple[str, ...], Any] = {}

    def set_pixels(self, pixels: object) -> None:
        """The picture to caption: float32 [1, 3, H, W]."""
        self._buffers.set_pixels(pixels)

    def set_source(self, ids: Sequence[int]) -> None:
        """The ids of the text that the bundle's text branch reads."""
        self._buffers.set_source(ids)

    def execute(self, request: Request) -> Answer:
        """Run one segment; see `protocol.Request`."""
        key = (request.run, *request.inputs.values())
        binding = self._bindings.get(key) or self._bind(key, request)
        self._buffers.before(request)
        self._sessions[request.run].run_with_iobinding(binding)
        return self._buffers.after(request)

    def call(self, run: str, port: str, inputs: Mapping[str, Array]) -> Array:
        """One output of a segment of a stack for these inputs; the bundle's constants need not be given."""
        entries = self.bundle.manifest.segments[run].inputs
        constants = self.bundle.manifest.layout.constants()[run]
        fed = {key: self._buffers.array(name, entries[key]) for key, name in constants.items()}
        found: Array = self._session(run).run([port], fed | dict(inputs))[0]
        return found

    def close(self) -> None:
        """Drop sessions and buffers."""
        for held in (self._bindings, self._sessions, self._values, self._buffers.arrays):
            held.clear()

    def _bind(self, key: tuple[str, ...], request: Request) -> Any:
        session = self._session(request.run)
        segment = self.bundle.manifest.segments[request.run]
        binding = session.io_binding()
        for port in request.inputs:
            name = self._buffers.source(request, port)
            binding.bind_ortvalue_input(port, self._value(name, segment.inputs[port]))
        for port in segment.outputs:
            name = request.outputs.get(port, f"unused.{port}")
            binding.bind_ortvalue_output(port, self._value(name, segment.outputs[port]))
        self._bindings[key] = binding
        return binding

    def _value(self, name: str, port: Port) -> Any:
        """The buffer of that name as ONNX Runtime's tensor on the same memory."""
        array = self._buffers.array(name, port)
        if name not in self._values:
            value = self._ort.OrtValue.ortvalue_from_numpy(array)
            if array.size and value.data_ptr() != array.ctypes.data:
                raise EnvironmentLacksError(
                    "this ONNX Runtime copies bound arrays; install onnxruntime>=1.20"
                )
            self._values[name] = value
        return self._values[name]

    def _session(self, name: str) -> Any:
        if name not in self._sessions:
            entry = self.bundle.manifest.segments[name]
            onnx_guard.check(self.bundle, entry.file)
            path = self.bundle.path / entry.file
            try:
                self._sessions[name] = self._ort.InferenceSession(
                    str(path), self._options(name),
                    providers=self._providers,
                )  # fmt: skip
            except Exception as problem:  # ONNX Runtime's own exceptions share no base class
                raise InputFileError(f"ONNX Runtime cannot load {entry.file}: {problem}") from problem
        return self._sessions[name]

    def _options(self, name: str) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry(*AS_WRITTEN)
        if self.bundle.manifest.precision == "int8":
            options.add_session_config_entry(EXACT_SUMS, "1" if saturates() else "0")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        decoder = self.bundle.manifest.segments[name].stack == DECODER or name == "head"
        if decoder and self._rows == 1 and not name.startswith("verify"):
            # A matrix-vector product gains nothing from packing and would copy the mapped weights.
            options.add_session_config_entry("session.disable_prepacking", "1")
        return options


@functools.cache
def saturates() -> bool:
    """Whether ONNX Runtime's usual int8 kernels add pairs of products in 16 bits here: on x86 without VNNI.

    Found by the largest factors, for one row and for several, which have kernels of their own.
    """
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])
    b = np.full((64, 16), 127, np.int8)
    sums = (session.run(["y"], {"a": np.full((rows, 64), 255, np.uint8), "b": b})[0] for rows in (1, 8))
    return any(np.any(found != 64 * 255 * 127) for found in sums)


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
