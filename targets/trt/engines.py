"""The engine cache: one file a segment in the user's cache folder, never in a bundle.

A file is a line that names the format, a line of JSON (what the engine depends on, its size and hash) and the
engine. It appears whole or not at all, and nothing of it reaches TensorRT before all of that was compared.
"""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import EnvironmentLacksError, InputFileError, command_line
from mue_edge.files import atomic_write, user_cache
from mue_edge.targets.trt.library import Identity

_FORMAT = b"mue-edge engine 1\n"
_MAX_HEADER = 4096


class EngineCache:
    """Engines of one bundle's segments. `folder` is shared by all bundles."""

    def __init__(self, bundle: Bundle, folder: Path | None = None) -> None:
        self.bundle = bundle
        self.folder = folder or _default_folder()

    def segment_hash(self, name: str) -> str:
        """Of a segment's graph and of the files beside it that hold weights."""
        manifest = self.bundle.manifest
        graphs = {segment.file for segment in manifest.segments.values()}
        file = manifest.segments[name].file
        beside = [
            entry.sha256
            for other, entry in sorted(manifest.files.items())
            if other not in graphs and PurePosixPath(other).parent == PurePosixPath(file).parent
        ]
        return hashlib.sha256("\n".join([manifest.files[file].sha256, *beside]).encode()).hexdigest()

    def path(self, identity: Identity) -> Path:
        return self.folder / f"{identity.segment[:32]}.engine"

    def timing(self, identity: Identity) -> Path:
        """Kernel timings, which all segments of all bundles share on one machine."""
        return self.folder / f"timing-{identity.tensorrt}-sm{identity.sm}.cache"

    def has(self, identity: Identity) -> bool:
        """Whether a whole engine of just this identity is there."""
        try:
            self.read("", identity)
        except InputFileError:
            return False
        return True

    def read(self, name: str, identity: Identity) -> bytes:
        """A segment's engine. Raises InputFileError, with the command that builds it, if there is none, if it
        was made by or for something else, or if it is damaged."""
        path = self.path(identity)
        cure = f"build it with: {command_line('build', self.bundle.path)}"
        try:
            raw = path.read_bytes()
        except OSError as problem:
            raise InputFileError(f"segment {name} has no engine here; {cure}") from problem
        header, engine = _parse(raw)
        if header is None:
            raise InputFileError(f"{path} is no engine file; {cure}")
        wanted = asdict(identity)
        other = [f"{k} {header.get(k)}, not {v}" for k, v in wanted.items() if header.get(k) != v]
        if other:
            raise InputFileError(f"the engine of segment {name} was made for {', '.join(other)}; {cure}")
        if hashlib.sha256(engine).hexdigest() != header.get("sha256"):
            raise InputFileError(f"the engine of segment {name} is damaged; {cure}")
        return engine

    def write(self, identity: Identity, engine: bytes) -> None:
        """Keep an engine. Raises EnvironmentLacksError where it cannot be written."""
        header = asdict(identity) | {"sha256": hashlib.sha256(engine).hexdigest()}
        self.put(self.path(identity), _FORMAT + json.dumps(header, sort_keys=True).encode() + b"\n" + engine)

    def put(self, path: Path, data: bytes) -> None:
        """A file of the cache, whole or not at all."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data)
        except OSError as problem:
            full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full" if full else problem.strerror
            raise EnvironmentLacksError(
                f"cannot write {path} ({len(data) / 1e6:.1f} MB): {why}; make room, or choose "
                "another place with "
                f"XDG_CACHE_HOME, then: {command_line('build', self.bundle.path)}"
            ) from problem

    def sweep(self) -> None:
        """Remove what a build that was killed has left: files that never got their name."""
        for left in self.folder.glob(".*.engine.*"):
            left.unlink(missing_ok=True)


def _parse(raw: bytes) -> tuple[dict[str, Any] | None, bytes]:
    if not raw.startswith(_FORMAT):
        return None, b""
    end = raw.find(b"\n", len(_FORMAT), len(_FORMAT) + _MAX_HEADER)
    try:
        header = json.loads(raw[len(_FORMAT) : end]) if end > 0 else None
    except ValueError:
        header = None
    return (header, raw[end + 1 :]) if isinstance(header, dict) else (None, b"")


def _default_folder() -> Path:
    return user_cache() / "engines"
