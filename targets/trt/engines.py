"""A bundle's engines: built here, and kept one file a segment in the user's cache folder, never in a bundle.

A file is a line that names the format, a line of JSON (what the engine depends on, its hash) and the engine.
It appears whole or not at all, and nothing of it reaches TensorRT before all of that was compared."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import EnvironmentLacksError, InputFileError, command_line
from mue_edge.files import atomic_write, user_cache
from mue_edge.targets import onnx_guard
from mue_edge.targets.trt.library import Identity, Library

_FORMAT = b"mue-edge engine 1\n"
_MAX_HEADER = 4096


class EngineCache:
    """Engines of one bundle's segments. `folder` is shared by all bundles."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.folder = bundle, user_cache() / "engines"

    def segment_hash(self, name: str) -> str:
        """Of a segment's graph and of the files beside it that hold weights."""
        manifest = self.bundle.manifest
        graphs = {segment.file for segment in manifest.segments.values()}
        file = PurePosixPath(manifest.segments[name].file)
        beside = sorted(f for f in manifest.files if f not in graphs and PurePosixPath(f).parent == file.parent)
        hashes = [manifest.files[f].sha256 for f in (str(file), *beside)]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

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
        other = [f"{k} {header.get(k)}, not {v}" for k, v in asdict(identity).items() if header.get(k) != v]
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
                f"cannot write {path} ({len(data) / 1e6:.1f} MB): {why}; make room, or choose another place "
                f"with XDG_CACHE_HOME, then: {command_line('build', self.bundle.path)}"
            ) from problem

    def sweep(self) -> None:
        """Remove the unfinished files of a build that was killed."""
        for unfinished in self.folder.glob(".*.engine.*"):
            unfinished.unlink(missing_ok=True)


def _parse(raw: bytes) -> tuple[dict[str, Any] | None, bytes]:
    if not raw.startswith(_FORMAT):
        return None, b""
    end = raw.find(b"\n", len(_FORMAT), len(_FORMAT) + _MAX_HEADER)
    try:
        header = json.loads(raw[len(_FORMAT) : end]) if end > 0 else None
    except ValueError:
        header = None
    return (header, raw[end + 1 :]) if isinstance(header, dict) else (None, b"")


@dataclass(frozen=True)
class Engine:
    """An engine in the cache. seconds: of building it, 0 if it was there."""

    segment: str
    bytes: int
    seconds: float


def build(
    bundle: Bundle,
    *,
    force: bool = False,
    workspace: int | None = None,
    progress: Callable[[str], object] = lambda segment: None,
) -> list[Engine]:
    """An engine for every segment; `progress` is called before each. workspace: the most bytes that a layer
    may use for itself. Raises EnvironmentLacksError without TensorRT, GPU, memory or disk, InputFileError for
    a graph that TensorRT does not take. What was built before stays."""
    library = Library()
    library.check(bundle)
    cache = EngineCache(bundle)
    cache.sweep()
    engines = []
    for name in bundle.manifest.segments:
        progress(name)
        identity = library.identity(cache.segment_hash(name))
        if not force and cache.has(identity):
            engines.append(Engine(name, cache.path(identity).stat().st_size, 0.0))
            continue
        start, timing = time.perf_counter(), cache.timing(identity)
        timings = b""
        with suppress(OSError):
            timings = timing.read_bytes()
        engine, timings = _build(bundle, name, library, timings, workspace)
        cache.write(identity, engine)
        cache.put(timing, timings)
        engines.append(Engine(name, len(engine), time.perf_counter() - start))
    return engines


def _build(bundle: Bundle, name: str, library: Library, timings: bytes, workspace: int | None) -> tuple[bytes, bytes]:
    """The serialised engine and the timings, which now hold its kernels' too."""
    trt = library.trt
    file = bundle.manifest.segments[name].file
    onnx_guard.check(bundle, file)
    builder = trt.Builder(library.logger)
    # Types are the graph's. TensorRT 11 knows nothing else and may have no flag for it.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse_from_file(str(bundle.path / file)):
        errors = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise InputFileError(
            f"TensorRT {library.version} does not take segment {name}: {errors}. Export the bundle for this "
            "JetPack: mue-edge export --target jetson --backend NAME"
        )
    config = builder.create_builder_config()
    if workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.set_timing_cache(config.create_timing_cache(timings), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EnvironmentLacksError(_failure(bundle, name, library))
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _failure(bundle: Bundle, name: str, library: Library) -> str:
    errors = library.complaints()
    cure = f"then try again: {command_line('build', bundle.path)}"
    if "memory" in errors.lower():
        smaller = command_line("build", bundle.path, "--workspace", 256)
        cure = f"close other programs, or allow less: {smaller}"
    free = library.cuda.free_memory() / 1e6
    return f"TensorRT could not build segment {name}: {errors}. {free:.0f} MB of GPU memory are free; {cure}"
