"""What both ways into Core ML share: compiled models in the user's cache, and the types of ports."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.files import user_cache
from mue_edge.targets.coreml.runtime import check_files, function_of, package_of
from mue_edge.targets.mil.program import Program, read

# Compiles the package at a path into a new folder.
Compile = Callable[[str, str], Any]


class Packages:
    """The packages of a bundle, each hashed and read once, when its first segment is asked for."""

    def __init__(self, bundle: Bundle, compile_model: Compile) -> None:
        self._bundle, self._compile = bundle, compile_model
        self._programs: dict[str, Program] = {}

    def ready(self, segment: str) -> tuple[Path, str | None]:
        """Where a segment's compiled model is, and its function's name if there are several. Raises
        InputFileError for files that were changed, or a function that is not as the manifest says."""
        entry = self._bundle.manifest.segments[segment]
        package = package_of(entry)
        if package not in self._programs:
            check_files(self._bundle, package)
            self._programs[package] = read(self._bundle.path / package, constants=False)
        program = self._programs[package]
        function = function_of(program, segment, entry)
        place = compiled(self._bundle, package, self._compile)
        return place, function if len(program.functions) > 1 else None


def halves(bundle: Bundle) -> bool:
    """Whether the bundle's segments take halves where the host's buffers may hold floats."""
    return bundle.manifest.segments["head"].inputs["y"].dtype == "float16"


def compiled(bundle: Bundle, package: str, compile_model: Compile) -> Path:
    """The `.mlmodelc` of a package, by its content in the user's cache; made if it is not there."""
    files = sorted((n, e.sha256) for n, e in bundle.manifest.files.items() if n.startswith(f"{package}/"))
    cache = user_cache() / "coreml"
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
