"""The host target: ONNX Runtime on a CPU, a session a segment.

Buffers are bound for good: a call copies nothing but the few scalars that it reads and one cache row.
Sessions share one memory arena, do not spin while idle, and keep their weights memory-mapped."""

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
from mue_edge.targets.buffers import Buffers, source

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


class HostRuntime(Buffers):
    """A bundle on ONNX Runtime. Not for several threads at once: buffers are shared by all calls. providers:
    execution providers in the order of preference; those that it was not built with are left out."""

    def __init__(
        self, bundle: Bundle, threads: int | None = None, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        super().__init__(bundle)
        self._ort = onnxruntime()
        self._providers = [name for name in providers if name in self._ort.get_available_providers()]
        self.threads = threads or default_threads()
        self._sessions: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._bindings: dict[tuple[str, ...], Any] = {}

    def execute(self, request: Request) -> Answer:
        key = (request.run, *request.inputs.values())
        if key not in self._bindings:
            self._bindings[key] = self._bind(request)
        self.before(request)
        self._sessions[request.run].run_with_iobinding(self._bindings[key])
        return self.after(request)

    def call(self, run: str, port: str, inputs: Mapping[str, Array]) -> Array:
        """One output of a segment of a stack for these inputs; the bundle's constants may be left out."""
        ports = self.bundle.manifest.segments[run].inputs
        constants = self.bundle.manifest.layout.constants()[run]
        feeds = {key: self.array(name, ports[key]) for key, name in constants.items()} | dict(inputs)
        output: Array = self._session(run).run([port], feeds)[0]
        return output

    def close(self) -> None:
        for dropped in (self._bindings, self._sessions, self._values, self.arrays):
            dropped.clear()

    def _bind(self, request: Request) -> Any:
        binding = self._session(request.run).io_binding()
        segment = self.bundle.manifest.segments[request.run]
        for port in request.inputs:
            binding.bind_ortvalue_input(port, self._value(source(request, port), segment.inputs[port]))
        for port, shape in segment.outputs.items():
            name = request.outputs.get(port, f"unused.{port}")
            binding.bind_ortvalue_output(port, self._value(name, shape))
        return binding

    def _value(self, name: str, port: Port) -> Any:
        """The buffer of that name as ONNX Runtime's tensor on the same memory."""
        array = self.array(name, port)
        if name not in self._values:
            value = self._ort.OrtValue.ortvalue_from_numpy(array)
            if array.size and value.data_ptr() != array.ctypes.data:
                raise EnvironmentLacksError("this ONNX Runtime copies bound arrays; install onnxruntime>=1.20")
            self._values[name] = value
        return self._values[name]

    def _session(self, name: str) -> Any:
        if name not in self._sessions:
            file = self.bundle.manifest.segments[name].file
            onnx_guard.check(self.bundle, file)
            path, options = str(self.bundle.path / file), self._options(name)
            try:
                session = self._ort.InferenceSession(path, options, providers=self._providers)
            except Exception as problem:  # ONNX Runtime's own exceptions share no base class
                raise InputFileError(f"ONNX Runtime cannot load {file}: {problem}") from problem
            self._sessions[name] = session
        return self._sessions[name]

    def _options(self, name: str) -> Any:
        manifest = self.bundle.manifest
        options = session_options(manifest.precision)
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        screened = name == "head" and manifest.plan.get("screened")
        integer = screened or (manifest.precision == "int8" and not name.startswith("fill"))
        decoder = manifest.segments[name].stack == DECODER or name == "head"
        if decoder and not integer and manifest.layout.rows == 1 and not name.startswith("verify"):
            # A float matrix-vector product gains nothing from packing and would copy the mapped weights. Integer
            # kernels on unpacked weights take up to three times as long.
            options.add_session_config_entry("session.disable_prepacking", "1")
        return options


def session_options(precision: str = "fp32") -> Any:
    """Of a session that computes what the graph says, in this precision, and prints errors only."""
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(*AS_WRITTEN)
    if precision == "int8":
        options.add_session_config_entry(EXACT_SUMS, "1" if saturates() else "0")
    return options


@functools.cache
def saturates() -> bool:
    """Whether ONNX Runtime's usual int8 kernels add pairs of products in 16 bits here (on x86 without VNNI),
    by the largest factors, for one row and for several, which have kernels of their own."""
    options = session_options()
    options.intra_op_num_threads = 1
    session = onnxruntime().InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])
    b = np.full((64, 16), 127, np.int8)
    sums = (session.run(["y"], {"a": np.full((rows, 64), 255, np.uint8), "b": b})[0] for rows in (1, 8))
    return any(np.any(result != 64 * 255 * 127) for result in sums)


@functools.cache
def onnxruntime() -> Any:
    """The package, with one memory arena for all sessions. Raises EnvironmentLacksError without it."""
    try:
        import onnxruntime as ort
    except ImportError as problem:
        raise missing_extra("onnxruntime", "host") from problem
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, None)
    return ort


def open_runtime(bundle: Bundle, threads: int | None = None) -> HostRuntime:
    return HostRuntime(bundle, threads)
