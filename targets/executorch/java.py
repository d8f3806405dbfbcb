"""ExecuTorch's Java library (`org.pytorch.executorch`), called from Python on the phone by Chaquopy's `java`.

What a method returns is a view of memory that the next call writes over, so it is copied at once, from buffer
to buffer, and stays on the Java side until the host reads it. Direct buffers count on the Java heap of old
Androids and are freed when Java likes, so there is one for each output and for each of the host's arrays.
Numbers cross the bridge as byte arrays, which it copies as a block. Names and exceptions: ExecuTorch 1.4.1's
Kotlin sources."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Port, Segment
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from mue_edge.targets.executorch.methods import method_of

PACKAGE = "org.pytorch.executorch"
# numpy's names → the library's, and the view of a byte buffer that it takes.
DTYPES = {"float32": ("FLOAT", "asFloatBuffer"), "int64": ("INT64", "asLongBuffer")}


Error = type[UsageError | InputFileError]


@dataclass(frozen=True)
class JavaBridge:
    """What is needed of a bridge to Java: a class by its name, arrays of primitives, and bytes of one."""

    jclass: Callable[[str], Any]
    byte_array: Callable[[bytes], Any]
    long_array: Callable[[Sequence[int]], Any]
    to_bytes: Callable[[Any], bytes] = bytes


def chaquopy() -> JavaBridge:
    """The bridge of an Android app. Raises EnvironmentLacksError outside of one."""
    try:
        from java import jarray, jbyte, jclass, jlong
    except ImportError as problem:
        raise EnvironmentLacksError(
            "the module java is not here: on Android mue-edge runs in an app made with Chaquopy or Briefcase"
        ) from problem
    return JavaBridge(jclass, jarray(jbyte), jarray(jlong))


class Module:
    """An `org.pytorch.executorch.Module` as `methods.Methods`; its tensors are Java's. Raises InputFileError
    for a file that it does not load or whose methods are not the segments."""

    def __init__(
        self, path: Path, segments: Mapping[str, Segment], threads: int | None = None, bridge: JavaBridge | None = None
    ) -> None:
        self.path, self._segments, self._bridge = path, segments, bridge or chaquopy()
        module, self._tensor, self._value = (self._class(name) for name in ("Module", "Tensor", "EValue"))
        self._bytes, self._order = (self._bridge.jclass(f"java.nio.{c}") for c in ("ByteBuffer", "ByteOrder"))
        mode = module.LOAD_MODE_MMAP  # pages are read when a method is loaded
        self._module = self._call(f"load {path}", module.load, str(path), mode, threads or 0)
        self._known = {str(name) for name in self._call("list methods", self._module.getMethods)}
        self._loaded: set[str] = set()
        self._outputs: dict[tuple[str, str], tuple[Any, Any]] = {}  # segment, port → buffer, tensor
        self._inputs: dict[int, tuple[Any, Any]] = {}  # an array's id → buffer, tensor

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        """Java tensors in and out, in the order of the segment's ports. Raises UsageError for tensors that
        the segment does not take, InputFileError for what Java throws."""
        entry, method = self._segments[segment], method_of(self.path, segment, self._known)
        if method not in self._loaded:
            self._call(f"load method {method}", self._module.loadMethod, method)
            self._loaded.add(method)
        self._check(segment, "input", entry.inputs, inputs, UsageError)
        values = [self._value.from_(x) for x in inputs]  # bridges give Python's keywords an underscore
        results = self._call(f"segment {segment}", self._module.execute, method, *values)
        views = [value.toTensor() for value in results]
        self._check(segment, "output", entry.outputs, views, InputFileError)
        return [self._copy(segment, name, view) for name, view in zip(entry.outputs, views)]

    def tensor(self, array: Array) -> Any:
        """A Java tensor of the array's values; the same one as before, if the array is the same."""
        name, key = array.dtype.name, id(array)
        if name not in DTYPES:
            raise UsageError(f"tensors are {' or '.join(DTYPES)} here, not {name}")
        if key not in self._inputs:
            raw = self._direct(array.nbytes)
            self._inputs[key] = raw, self._blob(getattr(raw, DTYPES[name][1])(), array.shape)
            weakref.finalize(array, self._inputs.pop, key, None)
        raw, tensor = self._inputs[key]
        raw.rewind()
        raw.put(self._bridge.byte_array(array.tobytes()))
        return tensor

    def array(self, tensor: Any, port: Port) -> Array:
        """The values of a Java tensor, which is a copy already."""
        raw = self._bytes.allocate(_size(port)).order(self._order.nativeOrder())
        getattr(raw, DTYPES[port.dtype][1])().put(_data(tensor))
        return np.frombuffer(self._bridge.to_bytes(raw.array()), port.dtype).reshape(port.shape).copy()

    def close(self) -> None:
        """Free the native module now, not when Java collects it."""
        self._outputs.clear()
        self._inputs.clear()
        self._module.destroy()

    def _check(self, segment: str, kind: str, ports: Mapping[str, Port], tensors: Sequence[Any], error: Error) -> None:
        if len(tensors) != len(ports):
            raise error(f"segment {segment} has {len(ports)} {kind}s, not {len(tensors)}")
        for (name, port), x in zip(ports.items(), tensors):
            shape, dtype = [int(n) for n in x.shape()], str(x.dtype())
            if shape != list(port.shape) or dtype != DTYPES[port.dtype][0]:
                what = f"segment {segment}: {kind} {name} is {dtype} {shape}"
                raise error(f"{what}, not {port.dtype} {list(port.shape)}")

    def _copy(self, segment: str, name: str, view: Any) -> Any:
        """A tensor with memory of its own, which stays until the segment runs again."""
        if (segment, name) not in self._outputs:
            port = self._segments[segment].outputs[name]
            values = getattr(self._direct(_size(port)), DTYPES[port.dtype][1])()
            self._outputs[segment, name] = values, self._blob(values, port.shape)
        values, tensor = self._outputs[segment, name]
        values.rewind()
        values.put(_data(view))
        return tensor

    def _direct(self, size: int) -> Any:
        return self._bytes.allocateDirect(size).order(self._order.nativeOrder())

    def _blob(self, values: Any, shape: Sequence[int]) -> Any:
        return self._tensor.fromBlob(values, self._bridge.long_array(list(shape)))

    def _class(self, name: str) -> Any:
        try:
            return self._bridge.jclass(f"{PACKAGE}.{name}")
        except Exception as problem:  # a bridge raises what Java threw
            raise EnvironmentLacksError(
                f"{PACKAGE}.{name} is not in this app; its build needs org.pytorch:executorch-android"
            ) from problem

    def _call(self, what: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except Exception as problem:  # as above
            raise InputFileError(f"{self.path}: {what}: ExecuTorch says: {problem}") from problem


def _size(port: Port) -> int:
    return math.prod(port.shape) * np.dtype(port.dtype).itemsize


def _data(tensor: Any) -> Any:
    """A tensor's own buffer, from its beginning."""
    data = tensor.getRawDataBuffer()
    data.rewind()
    return data
