"""Core ML on an iPhone, called from Python through rubicon-objc: a model a segment, as MLModel loads them.

Runs inside an app (CPython's iOS support, packaged by BeeWare). Unverified on hardware: tested against a
stand-in of exactly the Objective-C calls made here. What rubicon-objc 0.5 returns (read in its `api.py` and
`collections.py`): a method's C number is an int, an NSNumber stays an object that is no int, in arrays too;
its `longLongValue` is one (`py_from_ns` reads that)."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge.arrays import Array, np
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import EnvironmentLacksError, InputFileError
from mue_edge.targets.coreml.packages import LEVELS, CompiledModels
from mue_edge.targets.coreml.pixels import pixel_buffer

CLASSES = (
    *("MLModel", "MLModelConfiguration", "MLMultiArray"),
    *("MLDictionaryFeatureProvider", "MLFeatureValue", "NSURL"),
)
# MLComputeUnits of Core ML.
UNITS = {"cpu": 0, "gpu": 1, "all": 2, "ane": 3}
# MLMultiArrayDataType of Core ML, by numpy's names.
DTYPES = {"float16": 65552, "float32": 65568, "int32": 131104}


@dataclass(frozen=True)
class CoreMLBridge:
    """Objective-C: a class by name, Core Video's functions, an empty object pointer (a ctypes type, for
    errors that a method returns by address), and a pointer's object."""

    objc_class: Callable[[str], Any]
    core_video: Any
    pointer: Callable[[], Any]
    instance: Callable[[Any], Any]


class Models(CompiledModels):
    """Packages as `methods.Methods`: tensors are MLMultiArrays, or an MLFeatureValue with a picture."""

    def __init__(self, bundle: Bundle, bridge: CoreMLBridge, units: str = "all") -> None:
        super().__init__(bundle)
        self._bridge, self._units = bridge, UNITS[units]
        self._class = {name: bridge.objc_class(name) for name in CLASSES}

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        entry, model = self._bundle.manifest.segments[segment], self.model(segment)
        what = f"run the segment {segment} of {self._bundle.path}"
        provider = self._class["MLDictionaryFeatureProvider"].alloc()
        named = dict(zip(entry.inputs, inputs, strict=True))
        features = self._result(what, provider.initWithDictionary, named)
        outputs = self._result(what, model.predictionFromFeatures, features)
        return [outputs.featureValueForName(port).multiArrayValue for port in entry.outputs]

    def tensor(self, array: Array) -> Any:
        """A new MLMultiArray with the numbers, floats as halves where the bundle takes them; of grey levels
        [1, 3, H, W] a picture."""
        if array.dtype == LEVELS:
            with pixel_buffer(self._bridge.core_video, array) as buffer:
                return self._class["MLFeatureValue"].featureValueWithPixelBuffer(buffer)
        half = self._halves and array.dtype == np.float32
        own = array.astype(np.float16) if half else array
        kind, raw, empty = DTYPES[str(own.dtype)], own.tobytes(), self._class["MLMultiArray"].alloc()
        tensor = self._result("make an array", empty.initWithShape, list(own.shape), dataType=kind)
        ctypes.memmove(tensor.dataPointer, raw, len(raw))
        return tensor

    def array(self, tensor: Any, port: Port) -> Array:
        """A copy; Core ML pads the rows of what it returns as it likes."""
        shape, strides = ([n.longLongValue for n in ns] for ns in (tensor.shape, tensor.strides))
        (dtype,) = (np.dtype(name) for name, kind in DTYPES.items() if kind == tensor.dataType)
        # What lies together: the last axis, or single numbers.
        run, axes = (shape[-1], shape[:-1]) if shape and strides[-1] == 1 else (1, shape)
        starts = [0]
        for size, stride in zip(axes, strides):
            starts = [start + i * stride for start in starts for i in range(size)]
        first, item = tensor.dataPointer, dtype.itemsize
        raw = b"".join(ctypes.string_at(first + start * item, run * item) for start in starts)
        return np.frombuffer(raw, dtype).reshape(shape).astype(port.dtype)

    def _load(self, segment: str, path: Path, function: str | None) -> Any:
        configuration = self._class["MLModelConfiguration"].alloc().init()
        configuration.computeUnits = self._units
        if function is not None:
            configuration.functionName = function
        url = self._class["NSURL"].fileURLWithPath(str(path))
        what, load = f"load the segment {segment} of {self._bundle.path}", self._class["MLModel"]
        return self._result(what, load.modelWithContentsOfURL, url, configuration=configuration)

    def _compile(self, package: str, out: str) -> None:
        url = self._class["NSURL"].fileURLWithPath(package)
        model = self._result(f"compile {package}", self._class["MLModel"].compileModelAtURL, url)
        shutil.move(str(model.path), out)

    def _result(self, what: str, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """What a method returns that gives nothing, and an NSError by address, when it fails. Raises
        InputFileError with the error's own words."""
        error = self._bridge.pointer()
        result = method(*arguments, **options, error=ctypes.byref(error))
        if result is None:
            why = self._bridge.instance(error).localizedDescription if error else "no reason given"
            raise InputFileError(f"Core ML could not {what}: {why}")
        return result


def rubicon() -> CoreMLBridge:
    """The bridge inside of an app. Raises EnvironmentLacksError elsewhere."""
    try:
        from rubicon.objc import ObjCClass, ObjCInstance
        from rubicon.objc.runtime import load_library, objc_id
        from rubicon.objc.types import register_encoding
    except ImportError as problem:
        raise EnvironmentLacksError(
            "rubicon-objc is not here: on iOS mue-edge runs inside an app made with Briefcase, which lists "
            "rubicon-objc among its requirements"
        ) from problem
    register_encoding(b"^{__CVBuffer=}", ctypes.c_void_p)  # a pixel buffer, as methods declare it
    return CoreMLBridge(ObjCClass, load_library("CoreVideo"), objc_id, ObjCInstance)
