"""The host target: ONNX Runtime on a CPU, a session a segment.

Buffers are bound for good: a call copies nothing but the few scalars that it reads and one cache row.
Sessions share one memory arena, do not spin while idle, and keep their weights memory-mapped."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port, Segment
from mue_edge.errors import EnvironmentLacksError, InputFileError, missing_extra
from mue_edge.loop.protocol import DECODER, Answer, Request
from mue_edge.machine import default_threads
from mue_edge.targets import onnx_guard
from mue_edge.targets.buffers import Buffers
from mue_edge.targets.fusing import Fuser, GraphRun
from mue_edge.targets.packed import packed_segment

# Q/DQ pairs are computed as the graph says: ONNX Runtime's fused form of a half-precision convolution between
# them gives other values.
AS_WRITTEN = ("session.disable_quant_qdq", "1")
# With "1", int8 weights become uint8 when a session is made, on any x86: slower products, but exact sums.
EXACT_SUMS = "session.x64quantprecision"
# Bytes that the arena reserves at first; untouched ones cost nothing. Where all fits, segments use the same memory in
# turn; chunks that are added one by one are each too small for what comes next.
_ARENA = 256 << 20
# A graph y [m, 16] = MatMulInteger(a [m, 64] uint8, b [64, 16] int8), for devices without onnx.
_PRODUCT = bytes.fromhex(
    "08083a5e0a180a01610a0162120179220d4d61744d756c496e74656765721201675a140a0161120f0a0d080212090a0312016d0a"
    "0208405a130a0162120e0a0c080312080a0208400a02081062140a0179120f0a0d080612090a0312016d0a02081042040a00100d"
)


Copy = tuple[Array, Array]  # to, from


@dataclass(frozen=True)
class _Bound:
    """A session with its buffers; step → what a step of one row copies before and after the run."""

    session: Any
    binding: Any
    copies: dict[int, tuple[list[Copy], list[Copy]]] = field(default_factory=dict)


class HostRuntime(Buffers):
    """A bundle on ONNX Runtime. Not for several threads at once: buffers are shared by all calls. providers:
    execution providers in the order of preference; those that it was not built with are left out.

    Requests that read nothing wait for the next one that does, so that fused segments can run in their place.
    stepwise: run every segment by itself and at once (see `driver.stepwise`). clock: of what `Answer.ran` says.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None = None, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        super().__init__(bundle)
        self._ort = onnxruntime()
        self._providers = [name for name in providers if name in self._ort.get_available_providers()]
        self.threads = threads or default_threads()
        self._sessions: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._bound: dict[GraphRun, _Bound] = {}
        self._fuser = Fuser(bundle.manifest.fused)
        self._queue: list[Request] = []
        self._shared: Path | None = None
        self.stepwise = not bundle.manifest.fused
        self.clock: Callable[[], float] = time.perf_counter

    def share_packed(self, folder: Path) -> None:
        """Keep the packed weights of sessions in this folder, where processes with the same bundle share them."""
        self._shared = folder

    def set_pixels(self, pixels: object) -> None:
        self._queue.clear()  # of a caption that was not finished
        super().set_pixels(pixels)

    def set_source(self, ids: Sequence[int]) -> None:
        super().set_source(ids)
        for bound in self._bound.values():
            bound.copies.clear()

    def execute(self, request: Request) -> Answer:
        if not request.read and not self.stepwise:
            self._queue.append(request)
            return Answer(now=time.perf_counter(), ran=())
        queue, self._queue, ran = [*self._queue, request], [], list[tuple[str, float]]()
        for run, numbers in self._fuser.runs(queue):
            begin = self.clock()
            if run not in self._bound:
                self._bound[run] = self._bind(run)
            self._run(self._bound[run], [queue[i] for i in numbers])
            ran.append((run.name, self.clock() - begin))
        return self.answer(request, None if self.stepwise else tuple(ran))

    def _run(self, bound: _Bound, members: Sequence[Request]) -> None:
        """Run a segment for these requests. What a step of one row copies follows from the step, so those copies
        are looked up once."""
        position = next((m.position for m in members if m.position is not None), None)
        if position is None or position.together or len(position.ancestry) > 1:
            for member in members:
                self.write_inputs(member)
            bound.session.run_with_iobinding(bound.binding)
            for member in members:
                self.keep(member)
                self.store(member)
            return
        if position.step not in bound.copies:
            bound.copies[position.step] = self._step_copies(members)
        before, after = bound.copies[position.step]
        for member in members:
            if member.ids:
                self.write_inputs(member)
        for target, value in before:
            target[...] = value
        self._positions.clear()  # the buffers hold other biases now
        bound.session.run_with_iobinding(bound.binding)
        for target, value in after:
            target[...] = value
        for member in members:
            self.keep(member)

    def _step_copies(self, members: Sequence[Request]) -> tuple[list[Copy], list[Copy]]:
        """Of a step of one row: biases before the run, and cache rows after it."""
        before, after = dict[str, Copy](), list[Copy]()
        for member in members:
            if member.position is not None:
                values = self.biases(member, member.position)
                before |= {name: (self.arrays[name], value) for name, value in values.items()}
            after += [self.rows_to_slots(member, store) for store in member.store if store.port == "kv_rows"]
        return list(before.values()), after

    def call(self, run: str, port: str, inputs: Mapping[str, Array]) -> Array:
        """One output of a segment of a stack for these inputs; the bundle's constants may be left out."""
        ports = self.bundle.manifest.segments[run].inputs
        constants = self.bundle.manifest.layout.constants()[run]
        feeds = {key: self.array(name, ports[key]) for key, name in constants.items()} | dict(inputs)
        output: Array = self._session(run).run([port], feeds)[0]
        return output

    def close(self) -> None:
        for dropped in (self._bound, self._sessions, self._values, self.arrays):
            dropped.clear()

    def _bind(self, run: GraphRun) -> _Bound:
        session, segment = self._session(run.name), self._segment(run.name)
        binding = session.io_binding()
        for port, name in run.inputs.items():
            binding.bind_ortvalue_input(port, self._value(name, segment.inputs[port]))
        for port, shape in segment.outputs.items():
            name = run.outputs.get(port, f"unused.{port}")
            binding.bind_ortvalue_output(port, self._value(name, shape))
        return _Bound(session, binding)

    def _segment(self, name: str) -> Segment:
        manifest = self.bundle.manifest
        return manifest.fused[name].graph if name in manifest.fused else manifest.segments[name]

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
            file = self._segment(name).file
            onnx_guard.check(self.bundle, file)
            path, options = str(self.bundle.path / file), self._options(name)
            if self._shared is not None:
                path, options = packed_segment(self._ort, path, options, self._shared / name), self._options(name)
                options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is done
            try:
                session = self._ort.InferenceSession(path, options, providers=self._providers)
            except Exception as problem:  # ONNX Runtime's own exceptions share no base class
                raise InputFileError(f"ONNX Runtime cannot load {file}: {problem}") from problem
            self._sessions[name] = session
        return self._sessions[name]

    def _options(self, name: str) -> Any:
        options = session_options(self.bundle.manifest.precision)
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A plan of all its activations in one block would not fit where those of other sessions lay.
        options.enable_mem_pattern = self._segment(name).stack == DECODER or name.endswith("head")
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
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({"initial_chunk_size_bytes": _ARENA}))
    return ort


def open_runtime(bundle: Bundle, threads: int | None = None) -> HostRuntime:
    return HostRuntime(bundle, threads)
