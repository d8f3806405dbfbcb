"""Core ML on a Mac through coremltools: compiled models, a function a segment. Unverified on hardware; on a
Mac: `mue-edge verify BUNDLE --device`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mue_edge.arrays import Array
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port
from mue_edge.errors import EnvironmentLacksError, missing_extra
from mue_edge.targets.coreml.packages import LEVELS, CompiledModels

# What a segment may run on → coremltools' name for it.
UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE"}


class Compiled(CompiledModels):
    """Packages as `methods.Methods`: tensors are numpy arrays, or Pillow's picture where a port takes one."""

    def __init__(self, bundle: Bundle, units: str = "all", coremltools: Any = None) -> None:
        super().__init__(bundle)
        self._ct = coremltools or _coremltools()
        self._units = getattr(self._ct.ComputeUnit, UNITS[units])

    def run(self, segment: str, inputs: Sequence[Any]) -> Sequence[Array]:
        entry = self._bundle.manifest.segments[segment]
        outputs = self.model(segment).predict(dict(zip(entry.inputs, inputs, strict=True)))
        return [outputs[port] for port in entry.outputs]

    def tensor(self, array: Array) -> Any:
        """A copy in the ports' types; of grey levels [1, 3, H, W] a picture."""
        if array.dtype == LEVELS:
            return Image.fromarray(np.ascontiguousarray(array[0].transpose(1, 2, 0)))
        return array.astype("float16" if self._halves and array.dtype == "float32" else array.dtype)

    def array(self, tensor: Array, port: Port) -> Array:
        return tensor.astype(port.dtype)

    def _compile(self, package: str, out: str) -> object:
        return self._ct.models.utils.compile_model(package, out)

    def _load(self, segment: str, path: Path, function: str | None) -> Any:
        return self._ct.models.CompiledMLModel(str(path), self._units, function_name=function)


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
