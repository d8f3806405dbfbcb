"""Core ML on a Mac through coremltools: compiled models, a function a segment.

A package is compiled once into the user's cache. Unverified on hardware; on a Mac: `mue-edge verify BUNDLE
--device`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mue_edge.bundle import Bundle, Port
from mue_edge.errors import EnvironmentLacksError, missing_extra
from mue_edge.targets.buffers import Array
from mue_edge.targets.coreml import check_files, function_of, package_of
from mue_edge.targets.mil.program import read

# What a segment may run on → coremltools' name for it.
UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE"}


class Compiled:
    """Packages as `methods.Methods`: tensors are numpy arrays; `halves`: those of the ports are float16."""

    def __init__(self, bundle: Bundle, units: str = "all", coremltools: Any = None) -> None:
        self._ct = coremltools or _coremltools()
        self._bundle, self._units = bundle, getattr(self._ct.ComputeUnit, UNITS[units])
        self._models: dict[str, Any] = {}
        self._halves = halves(bundle)

    def run(self, segment: str, inputs: Sequence[Array]) -> Sequence[Array]:
        """Arrays in and out, in the order of the segment's ports."""
        entry = self._bundle.manifest.segments[segment]
        if segment not in self._models:
            self._models[segment] = self._load(segment)
        made = self._models[segment].predict(dict(zip(entry.inputs, inputs, strict=True)))
        return [made[port] for port in entry.outputs]

    def tensor(self, array: Array) -> Array:
        """A copy in the ports' types."""
        return array.astype("float16" if self._halves and array.dtype == "float32" else array.dtype)

    def array(self, tensor: Array, port: Port) -> Array:
        """The numbers in the port's type."""
        return tensor.astype(port.dtype)

    def close(self) -> None:
        """Drop the models."""
        self._models.clear()

    def _load(self, segment: str) -> Any:
        entry = self._bundle.manifest.segments[segment]
        package = package_of(entry)
        check_files(self._bundle, package)
        program = read(self._bundle.path / package)
        function = function_of(program, segment, entry)
        place = compiled(self._bundle, package, self._ct.models.utils.compile_model)
        name = function if len(program.functions) > 1 else None
        return self._ct.models.CompiledMLModel(str(place), self._units, function_name=name)


def halves(bundle: Bundle) -> bool:
    """Whether the bundle's segments take halves where the host's buffers may hold floats."""
    return bundle.manifest.segments["stem"].inputs["pixels"].dtype == "float16"


def compiled(bundle: Bundle, package: str, compile_model: Callable[[str, str], Any]) -> Path:
    """The `.mlmodelc` of a package, by its content in the user's cache; made if it is not there."""
    files = sorted((n, e.sha256) for n, e in bundle.manifest.files.items() if n.startswith(f"{package}/"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mue-edge" / "coreml"
    place = cache / f"{hashlib.sha256(repr(files).encode()).hexdigest()[:24]}.mlmodelc"
    if not place.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        made = place.with_name(f"{os.getpid()}-{place.name}")
        compile_model(str(bundle.path / package), str(made))
        try:
            made.rename(place)
        except OSError:  # another process was faster
            shutil.rmtree(made, ignore_errors=True)
    return place


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
