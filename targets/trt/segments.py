"""Loaded engines: contexts with bound addresses, CUDA graphs of them, and the memory that all execute in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Segment
from mue_edge.errors import EnvironmentLacksError, InputFileError, command_line
from mue_edge.targets.trt.engines import EngineCache
from mue_edge.targets.trt.library import Library
from mue_edge.targets.trt.memory import Buffer


class Engines:
    """The engines of a bundle. They run one after the other on one stream, so their workspaces are one
    memory: as large as the largest needs. Raises InputFileError for engines that are missing, stale or not
    those of the manifest."""

    def __init__(self, bundle: Bundle, library: Library) -> None:
        self._library = library
        cache = EngineCache(bundle)
        self._runtime = library.trt.Runtime(library.logger)  # engines need it as long as they live
        self._engines: dict[str, Any] = {}
        for name, segment in bundle.manifest.segments.items():
            raw = cache.read(name, library.identity(cache.segment_hash(name)))
            engine = self._runtime.deserialize_cuda_engine(raw)
            if engine is None:
                raise InputFileError(
                    f"TensorRT cannot load the engine of segment {name}: {library.complaints()}; "
                    "build it again: " + command_line("build", bundle.path, "--force")
                )
            _check(bundle, name, segment, engine, library.trt)
            self._engines[name] = engine
        self.workspace_bytes = max(int(e.device_memory_size_v2) for e in self._engines.values())
        self._workspace = library.cuda.malloc(self.workspace_bytes)

    def bind(self, name: str, buffers: Mapping[str, Buffer], stream: Any) -> Bound:
        """A segment with its ports at these buffers for good."""
        trt = self._library.trt
        context = self._engines[name].create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise EnvironmentLacksError(
                f"TensorRT cannot make a context for segment {name}: {self._library.complaints()}; close other programs"
            )
        context.set_device_memory(self._workspace, self.workspace_bytes)
        for port, buffer in buffers.items():
            if not context.set_tensor_address(port, buffer.pointer):
                raise InputFileError(f"segment {name} has no port {port}: {self._library.complaints()}")
        return Bound(name, context, self._library, stream)

    def close(self) -> None:
        self._engines.clear()
        self._library.cuda.call("cudaFree", self._workspace)


@dataclass
class Bound:
    """A segment whose addresses are fixed: run plainly once, which TensorRT needs, then as a CUDA graph."""

    name: str
    context: Any
    library: Library
    stream: Any
    graph: Any = None
    runs: int = 0
    # Why it is launched kernel by kernel, if it is.
    plain: str = ""

    def enqueue(self) -> None:
        """Behind everything that the stream has been given so far."""
        if self.graph is None and self.runs and not self.plain:
            self._capture()
        if self.graph is None:
            self._run()
        else:
            self.library.cuda.call("cudaGraphLaunch", self.graph, self.stream)
        self.runs += 1

    def close(self) -> None:
        if self.graph is not None:
            self.library.cuda.call("cudaGraphExecDestroy", self.graph)
        self.graph = self.context = None

    def _run(self) -> None:
        if not self.context.execute_async_v3(int(self.stream)):
            raise EnvironmentLacksError(f"TensorRT cannot run segment {self.name}: {self.library.complaints()}")

    def _capture(self) -> None:
        """Make the graph, or keep why there is none. A failed capture is ended too, or the stream stays
        unusable."""
        cuda, graph = self.library.cuda, None
        cuda.begin_capture(self.stream)
        try:
            try:
                self._run()
            finally:
                graph = cuda.end_capture(self.stream)
        except EnvironmentLacksError as refused:
            # Of two failures the first: the second says only that nothing was captured.
            self.plain = str(refused.__context__ or refused)
            if graph is not None:
                cuda.call("cudaGraphExecDestroy", graph)
            return
        self.graph = graph


def _check(bundle: Bundle, name: str, segment: Segment, engine: Any, trt: Any) -> None:
    """Raises InputFileError for an engine whose ports are not the manifest's."""
    ports = {}
    for port in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(port))).name
        ports[port] = (tuple(engine.get_tensor_shape(port)), dtype)
    wanted = {p: (port.shape, port.dtype) for p, port in {**segment.inputs, **segment.outputs}.items()}
    if ports != wanted:
        raise InputFileError(
            f"the engine of segment {name} has ports {ports}, the manifest says {wanted}; build it again: "
            + command_line("build", bundle.path, "--force")
        )
