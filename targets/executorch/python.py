"""ExecuTorch's Python runtime: Linux on x86-64 and aarch64, macOS.

A program is opened by its path (bytes would be copied) and a method is loaded when its segment first runs.
Tensors go in without a copy, and come out without one if the program leaves outputs to the caller. Else
outputs lie in memory that all methods share, where the next method may write over its own input while it
reads it: the states look right and every exit score is 1. So those are cloned at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port, Segment
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError, missing_extra
from mue_edge.machine import default_threads
from mue_edge.targets.executorch.methods import MethodsRuntime, method_of, program_file

# ExecuTorch's numbers of the types that segments have.
DTYPES = {6: "float32", 4: "int64", 3: "int32"}
BACKENDS = {"xnnpack": "XnnpackBackend", "vulkan": "VulkanBackend"}


@dataclass(frozen=True)
class Loaded:
    """A method that is ready to run; `shared`: its outputs lie in memory that other methods use too."""

    method: Any
    shared: bool


class ExecuTorchProgram:
    """An open .pte as `methods.Methods`, with segments as a manifest describes them. Raises InputFileError
    for a file that is no program, or one whose methods are not those segments."""

    def __init__(self, path: Path, segments: Mapping[str, Segment], threads: int | None = None) -> None:
        self._torch, runtime = _packages()
        self.path, self._segments = path, segments
        from executorch.extension.pybindings import portable_lib

        wanted = threads or default_threads()
        # The pool is the process's, apart from torch's own; it must be set before methods are loaded.
        if portable_lib._threadpool_get_thread_count() != wanted:
            portable_lib._unsafe_reset_threadpool(wanted)
        try:
            self._program = runtime.load_program(str(path))
        except RuntimeError as problem:
            raise InputFileError(f"ExecuTorch cannot load {path}: {problem}") from problem
        self._loaded: dict[str, Loaded] = {}

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        """Torch tensors in and out, in the order of the segment's ports. Raises UsageError for tensors that
        the method does not take."""
        loaded = self._loaded.get(segment) or self.load(segment)
        self._check(segment, inputs)
        try:
            outputs: Sequence[Any] = loaded.method.call(tuple(inputs), clone_outputs=loaded.shared)
        except RuntimeError as problem:
            raise InputFileError(f"{self.path}: segment {segment} failed: {problem}") from problem
        return outputs

    def tensor(self, array: Array) -> Any:
        """The same memory as torch sees it."""
        return self._torch.from_numpy(np.ascontiguousarray(array))

    def array(self, tensor: Any, port: Port) -> Array:
        """The same memory as numpy sees it."""
        return np.asarray(tensor.numpy())

    def close(self) -> None:
        self._loaded.clear()
        self._program = None

    def load(self, segment: str) -> Loaded:
        """Load a segment's method, which its first run does too. Raises InputFileError."""
        name, entry = method_of(self.path, segment, self._program.method_names), self._segments[segment]
        meta = self._program.metadata(name)
        inputs = [meta.input_tensor_meta(i) for i in range(meta.num_inputs())]
        outputs = [meta.output_tensor_meta(i) for i in range(meta.num_outputs())]
        for kind, ports, metas in (("input", entry.inputs, inputs), ("output", entry.outputs, outputs)):
            own = [Port(tuple(m.sizes()), DTYPES.get(m.dtype(), f"type {m.dtype()}")) for m in metas]
            if own != list(ports.values()):
                raise InputFileError(
                    f"{self.path}: method {name} has the {kind}s {_listed(own)}, the manifest says "
                    f"{_listed(ports.values())}; export again"
                )
        try:
            method = self._program.load_method(name)._method
        except RuntimeError as problem:
            raise InputFileError(f"ExecuTorch cannot load the method {name} of {self.path}: {problem}") from problem
        shared = any(m.is_memory_planned() for m in outputs)
        self._loaded[segment] = Loaded(method, shared)
        return self._loaded[segment]

    def _check(self, segment: str, inputs: Sequence[Any]) -> None:
        """The runtime's own words for these are numbers, and its details go to standard error."""
        ports = self._segments[segment].inputs
        if len(inputs) != len(ports):
            raise UsageError(f"segment {segment} takes {len(ports)} tensors, not {len(inputs)}")
        for (name, port), x in zip(ports.items(), inputs):
            what = f"segment {segment}: input {name} is"
            if not isinstance(x, self._torch.Tensor):
                raise UsageError(f"{what} a {type(x).__name__}, not a torch.Tensor")
            own = Port(tuple(x.shape), str(x.dtype).removeprefix("torch."))
            if own != port:
                raise UsageError(f"{what} {_listed([own])}; it takes {_listed([port])}")
            if not x.is_contiguous():
                raise UsageError(f"{what} not contiguous")


def _listed(ports: Iterable[Port]) -> str:
    return "; ".join(f"{port.dtype} {list(port.shape)}" for port in ports)


def _packages() -> tuple[Any, Any]:
    try:
        import torch
        from executorch.runtime import Runtime
    except ImportError as problem:
        raise missing_extra("executorch", "executorch") from problem
    return torch, Runtime.get()


def available(backend: str) -> bool:
    """Whether this machine's ExecuTorch can run what was lowered for a backend."""
    return bool(_packages()[1].backend_registry.is_available(BACKENDS[backend]))


def open_runtime(bundle: Bundle, threads: int | None = None) -> MethodsRuntime:
    """A bundle of ExecuTorch's on this machine. Its program is hashed before ExecuTorch sees a byte."""
    backend = str(bundle.manifest.plan.get("backend", ""))
    if backend not in BACKENDS:
        raise InputFileError(
            f"{bundle.path}: unknown backend {backend!r}; known backends: {', '.join(BACKENDS)}. Export again"
        )
    if not available(backend):
        raise EnvironmentLacksError(
            f"{bundle.path} was lowered for {backend}, which this machine's ExecuTorch does not have; for "
            "here, export with: mue-edge export --backend xnnpack"
        )
    program = ExecuTorchProgram(program_file(bundle), bundle.manifest.segments, threads)
    return MethodsRuntime(bundle, program)
