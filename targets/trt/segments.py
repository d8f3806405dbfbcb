"""Loaded engines: contexts with bound addresses, CUDA graphs of them, and the one memory that all execute
in.
"""

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
    memory: as large as the largest needs.

    Raises InputFileError for engines that are missing, stale or not those of the manifest.
    """

    def __init__(self, bundle: Bundle, library: Library) -> None:
        self._library = library
        cache = EngineCache(bundle)
        runtime = library.trt.Runtime(library.logger)
        self._runtime = runtime  # engines need it as long as they live
        self._engines: dict[str, Any] = {}
        for name, segment in bundle.manifest.segments.items():
            raw = cache.read(name, library.identity(cache.segment_hash(name)))
            engine = runtime.deserialize_cuda_engine(raw)
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
        context = self._engines[name].create_execution_context(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise EnvironmentLacksError(
                f"TensorRT cannot make a context for segment {name}: {self._library.complaints()}; "
                "close other "
                "programs"
            )
        context.set_device_memory(self._workspace, self.workspace_bytes)
        for port, buffer in buffers.items():
            if not context.set_tensor_address(port, buffer.pointer):
                raise InputFileError(f"segment {name} has no port {port}: {self._library.complaints()}")
        return Bound(name, context, self._library, stream)

    def close(self) -> None:
        self._engines.clear()
        self._library.cuda.free(self._workspace)


@dataclass
class Bound:
    """A segment whose addresses are fixed: run plainly once, which lets TensorRT set itself up, then as a
    CUDA graph."""

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
            self.library.cuda.launch(self.graph, self.stream)
        self.runs += 1

    def close(self) -> None:
        if self.graph is not None:
            self.library.cuda.destroy_graph(self.graph)
        self.graph = self.context = None

    def _run(self) -> None:
        if not self.context.execute_async_v3(int(self.stream)):
            raise EnvironmentLacksError(
                f"TensorRT cannot run segment {self.name}: {self.library.complaints()}"
            )

    def _capture(self) -> None:
        """Make the graph, or remember why there is none. A capture that failed must be ended too, or the
        stream stays unusable."""
        cuda, graph, problem = self.library.cuda, None, ""
        cuda.begin_capture(self.stream)
        try:
            self._run()
        except EnvironmentLacksError as refused:
            problem = str(refused)
        try:
            graph = cuda.end_capture(self.stream)
        except EnvironmentLacksError as refused:
            problem = problem or str(refused)
        if problem and graph is not None:
            cuda.destroy_graph(graph)
        self.graph, self.plain = (None, problem) if problem else (graph, "")


def _check(bundle: Bundle, name: str, segment: Segment, engine: Any, trt: Any) -> None:
    """The engine's ports are the manifest's."""
    found = {}
    for i in range(engine.num_io_tensors):
        port = engine.get_tensor_name(i)
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(port))).name
        found[port] = (tuple(engine.get_tensor_shape(port)), dtype)
    wanted = {p: (port.shape, port.dtype) for p, port in (*segment.inputs.items(), *segment.outputs.items())}
    if found != wanted:
        raise InputFileError(
            f"the engine of segment {name} has ports {found}, the manifest says {wanted}; build it again: "
            + command_line("build", bundle.path, "--force")
        )
