"""ML packages of a bundle: which function a segment is, and Core ML's own models of them.

A segment's file is its package's `model.mlmodel`; its function has the segment's name, or is `main` where the
package holds one segment. Compiled models lie in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import Port, Segment
from mue_edge.errors import InputFileError
from mue_edge.files import user_cache
from mue_edge.targets.executorch.methods import method_name
from mue_edge.targets.mil.program import Function, NamedType, Program, read

# Where an `.mlpackage` of coremltools' keeps its program.
MODEL = "Data/com.apple.CoreML/model.mlmodel"
# The type of a port that takes a picture.
LEVELS = "uint8"


def package_of(segment: Segment) -> str:
    """The package's folder inside of the bundle. Raises InputFileError for another kind of file."""
    if not segment.file.endswith(f".mlpackage/{MODEL}"):
        raise InputFileError(f"{segment.file} is no part of an ML package; export the bundle again")
    return segment.file.removesuffix(f"/{MODEL}")


def signature(function: Function) -> tuple[dict[str, Port], dict[str, Port]]:
    """Inputs and outputs by name; pictures are of the type LEVELS."""

    def ports(values: Sequence[NamedType]) -> dict[str, Port]:
        return {v.name: Port(v.kind.sizes, v.kind.dtype) for v in values}

    inputs = ports(function.inputs)
    pictures = {name: replace(inputs[name], dtype=LEVELS) for name in function.pictures}
    return inputs | pictures, ports(function.outputs())


class Packages:
    """The packages of a folder, each read once, when its first segment runs, and hashed before that if they
    are of a bundle. constants: see `program.read`."""

    def __init__(
        self, folder: Path, segments: Mapping[str, Segment], bundle: Bundle | None, *, constants: bool = True
    ) -> None:
        self._folder, self._segments, self._bundle, self._constants = folder, segments, bundle, constants
        self.programs: dict[str, Program] = {}

    def function(self, segment: str) -> tuple[Program, str]:
        """A segment's program and its function's name. Raises InputFileError for changed files or another
        function."""
        entry = self._segments[segment]
        package = package_of(entry)
        if package not in self.programs:
            if self._bundle is not None:
                for file in self._bundle.manifest.files:
                    if file.startswith(f"{package}/"):
                        self._bundle.file(file)
            self.programs[package] = read(self._folder / package, constants=self._constants)
        program = self.programs[package]
        functions = program.functions
        name = "main" if list(functions) == ["main"] else method_name(segment)
        if name not in functions:
            raise InputFileError(
                f"{program.folder} has no function {name!r}; it has: {', '.join(functions)}. Export again"
            )
        inputs, outputs = signature(functions[name])
        if inputs != dict(entry.inputs) or outputs != dict(entry.outputs):
            raise InputFileError(
                f"{program.folder}: function {name} takes and gives {inputs}, {outputs}; the manifest says "
                f"{dict(entry.inputs)}, {dict(entry.outputs)}. Export again"
            )
        return program, name


class CompiledModels(ABC):
    """The segments of a bundle as Core ML's models, each loaded when it first runs."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, segments = bundle, bundle.manifest.segments
        self._packages = Packages(bundle.path, segments, bundle, constants=False)
        self._models: dict[str, Any] = {}
        # Whether segments take halves where the host's buffers may hold floats.
        self._halves = segments["head"].inputs["y"].dtype == "float16"

    @abstractmethod
    def _compile(self, package: str, out: str) -> object:
        """Compile the package at a path into a new folder."""

    @abstractmethod
    def _load(self, segment: str, path: Path, function: str | None) -> Any:
        """The model of a compiled package; function: its name, if the package has several."""

    def model(self, segment: str) -> Any:
        """The segment's model. Raises InputFileError; see `Packages.function`."""
        if segment not in self._models:
            self._models[segment] = self._load(segment, *self.compiled(segment))
        return self._models[segment]

    def compiled(self, segment: str) -> tuple[Path, str | None]:
        """The segment's `.mlmodelc`, found by its package's content or made now; its function, if it has
        several."""
        program, function = self._packages.function(segment)
        package = package_of(self._bundle.manifest.segments[segment])
        entries = self._bundle.manifest.files.items()
        files = sorted((name, e.sha256) for name, e in entries if name.startswith(f"{package}/"))
        cache = user_cache() / "coreml"
        path = cache / f"{hashlib.sha256(repr(files).encode()).hexdigest()[:24]}.mlmodelc"
        if not path.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            own = path.with_name(f"{os.getpid()}-{path.name}")
            self._compile(str(self._bundle.path / package), str(own))
            try:
                own.rename(path)
            except OSError:  # another process was faster
                shutil.rmtree(own, ignore_errors=True)
        return path, function if len(program.functions) > 1 else None

    def close(self) -> None:
        self._models.clear()
