"""Core ML on an iPhone, called from Python through rubicon-objc: a model a segment, as MLModel loads them.

Runs inside an app (CPython's iOS support, packaged by BeeWare). Unverified on hardware: tested against a
stand-in of exactly the Objective-C calls made here.
"""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mue_edge.bundle import Bundle, Port
from mue_edge.errors import EnvironmentLacksError, InputFileError
from mue_edge.targets.buffers import Array
from mue_edge.targets.coreml import LEVELS
from mue_edge.targets.coreml_native import halves, ready
from mue_edge.targets.coreml_pixels import pixel_buffer

# MLComputeUnits of Core ML.
UNITS = {"cpu": 0, "gpu": 1, "all": 2, "ane": 3}
# MLMultiArrayDataType of Core ML, by numpy's names.
DTYPES = {"float16": 65552, "float32": 65568, "int32": 131104}


class Models:
    """Packages as `methods.Methods`: tensors are MLMultiArrays, or an MLFeatureValue with a picture.

    objc_class: gives classes by name. core_video: the library's functions.
    """

    def __init__(
        self, bundle: Bundle, objc_class: Callable[[str], Any], core_video: Any, units: str = "all"
    ) -> None:
        self._bundle, self._units, self._halves = bundle, UNITS[units], halves(bundle)
        self._core_video = core_video
        self._class = {
            name: objc_class(name)
            for name in (
                "MLModel", "MLModelConfiguration", "MLMultiArray", "MLDictionaryFeatureProvider",
                "MLFeatureValue", "NSURL",
            )
        }  # fmt: skip
        self._models: dict[str, Any] = {}

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Any]:
        """MLMultiArrays in and out, in the order of the segment's ports."""
        entry = self._bundle.manifest.segments[segment]
        if segment not in self._models:
            self._models[segment] = self._load(segment)
        named = dict(zip(entry.inputs, inputs, strict=True))
        features = self._class["MLDictionaryFeatureProvider"].alloc().initWithDictionary(named, error=None)
        made = self._models[segment].predictionFromFeatures(features, error=None)
        if made is None:
            raise InputFileError(f"{self._bundle.path}: Core ML could not run the segment {segment}")
        return [made.featureValueForName(port).multiArrayValue for port in entry.outputs]

    def tensor(self, array: Array) -> Any:
        """A new MLMultiArray with the numbers, floats as halves where the bundle takes them; of grey levels
        [1, 3, H, W] a picture."""
        if array.dtype == LEVELS:
            with pixel_buffer(self._core_video, array) as buffer:
                return self._class["MLFeatureValue"].featureValueWithPixelBuffer(buffer)
        half = self._halves and array.dtype == np.float32
        own = np.array(array, np.float16 if half else array.dtype, order="C")
        kind = DTYPES[own.dtype.name]
        made = self._class["MLMultiArray"].alloc().initWithShape(list(own.shape), dataType=kind, error=None)
        ctypes.memmove(_address(made), own.ctypes.data, own.nbytes)
        return made

    def array(self, tensor: Any, port: Port) -> Array:
        """A copy; Core ML pads the rows of what it returns as it likes."""
        shape, strides = ([int(n) for n in ns] for ns in (tensor.shape, tensor.strides))
        (dtype,) = (np.dtype(name) for name, kind in DTYPES.items() if kind == int(tensor.dataType))
        span = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
        raw = (ctypes.c_char * (span * dtype.itemsize)).from_address(_address(tensor))
        flat = np.frombuffer(memoryview(raw), dtype)
        view = np.lib.stride_tricks.as_strided(flat, shape, [s * dtype.itemsize for s in strides])
        return view.astype(port.dtype)

    def close(self) -> None:
        """Drop the models."""
        self._models.clear()

    def _load(self, segment: str) -> Any:
        place, function = ready(self._bundle, segment, self._compile)
        configuration = self._class["MLModelConfiguration"].alloc().init()
        configuration.computeUnits = self._units
        if function is not None:
            configuration.functionName = function
        made = self._class["MLModel"].modelWithContentsOfURL(
            self._class["NSURL"].fileURLWithPath(str(place)), configuration=configuration, error=None
        )
        if made is None:
            raise InputFileError(f"{self._bundle.path}: Core ML could not load the segment {segment}")
        return made

    def _compile(self, package: str, out: str) -> None:
        url = self._class["MLModel"].compileModelAtURL(
            self._class["NSURL"].fileURLWithPath(package), error=None
        )
        if url is None:
            raise InputFileError(f"{package}: Core ML could not compile it")
        shutil.move(str(url.path), out)


def _address(array: Any) -> int:
    pointer = array.dataPointer
    return int(getattr(pointer, "value", pointer))


def rubicon() -> tuple[Callable[[str], Any], Any]:
    """Classes of Objective-C by name, and Core Video. Raises EnvironmentLacksError outside of an app."""
    try:
        from rubicon.objc import ObjCClass
        from rubicon.objc.runtime import load_library
        from rubicon.objc.types import register_encoding
    except ImportError as problem:
        raise EnvironmentLacksError(
            "rubicon-objc is not here: on iOS mue-edge runs inside an app made with Briefcase, which lists "
            "rubicon-objc among its requirements"
        ) from problem
    register_encoding(b"^{__CVBuffer=}", ctypes.c_void_p)  # a pixel buffer, as methods declare it
    return ObjCClass, load_library("CoreVideo")
