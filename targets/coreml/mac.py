"""Core ML on a Mac through coremltools: compiled models, a function a segment.

A package is compiled once into the user's cache. Unverified on hardware; on a Mac: `mue-edge verify BUNDLE
--device`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import EnvironmentLacksError, missing_extra
from mue_edge.targets.coreml.packages import Packages, halves
from mue_edge.targets.coreml.runtime import LEVELS

# What a segment may run on → coremltools' name for it.
UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE"}


class Compiled:
    """Packages as `methods.Methods`: tensors are numpy arrays, or Pillow's picture where a port takes one."""

    def __init__(self, bundle: Bundle, units: str = "all", coremltools: Any = None) -> None:
        self._ct = coremltools or _coremltools()
        self._bundle, self._units = bundle, getattr(self._ct.ComputeUnit, UNITS[units])
        self._models: dict[str, Any] = {}
        self._packages = Packages(bundle, self._ct.models.utils.compile_model)
        self._halves = halves(bundle)

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Array]:
        """Tensors in and arrays out, in the order of the segment's ports."""
        entry = self._bundle.manifest.segments[segment]
        if segment not in self._models:
            self._models[segment] = self._load(segment)
        made = self._models[segment].predict(dict(zip(entry.inputs, inputs, strict=True)))
        return [made[port] for port in entry.outputs]

    def tensor(self, array: Array) -> Any:
        """A copy in the ports' types; of grey levels [1, 3, H, W] a picture."""
        if array.dtype == LEVELS:
            return Image.fromarray(np.ascontiguousarray(array[0].transpose(1, 2, 0)))
        return array.astype("float16" if self._halves and array.dtype == "float32" else array.dtype)

    def array(self, tensor: Array, port: Port) -> Array:
        """The numbers in the port's type."""
        return tensor.astype(port.dtype)

    def close(self) -> None:
        """Drop the models."""
        self._models.clear()

    def _load(self, segment: str) -> Any:
        place, function = self._packages.ready(segment)
        return self._ct.models.CompiledMLModel(str(place), self._units, function_name=function)


def _coremltools() -> Any:
    try:
        import coremltools
        from coremltools.models.model import _MLModelProxy
    except ImportError as problem:
        raise missing_extra("coremltools", "coreml") from problem
    if _MLModelProxy is None:
        raise EnvironmentLacksError(
            "this coremltools came without Core ML's library; on a Mac: pip install --force-reinstall "
            "'mue-edge[coreml]'"
        )
    return coremltools
