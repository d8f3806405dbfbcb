"""Builds a bundle's engines with the installed TensorRT; what is there already is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import EnvironmentLacksError, InputFileError, command_line
from mue_edge.targets import onnx_guard
from mue_edge.targets.trt.engines import EngineCache
from mue_edge.targets.trt.library import Library


@dataclass(frozen=True)
class Engine:
    """An engine in the cache. seconds: of building it, 0 if it was there."""

    segment: str
    bytes: int
    seconds: float


def build(
    bundle: Bundle, *, force: bool = False, workspace: int | None = None,
    progress: Callable[[str], object] = lambda segment: None, library: Library | None = None,
) -> list[Engine]:  # fmt: skip
    """An engine for every segment; `progress` is called before each. workspace: the most bytes that a layer
    may use for itself.

    Raises EnvironmentLacksError without TensorRT, GPU, memory or disk, InputFileError for a graph that
    TensorRT does not take. What was built before stays.
    """
    library = library or Library()
    library.check(bundle)
    cache = EngineCache(bundle)
    cache.sweep()
    made = []
    for name in bundle.manifest.segments:
        progress(name)
        identity = library.identity(cache.segment_hash(name))
        if not force and cache.has(identity):
            made.append(Engine(name, cache.path(identity).stat().st_size, 0.0))
            continue
        begin = time.perf_counter()
        timing = cache.timing(identity)
        timings = b""
        with suppress(OSError):
            timings = timing.read_bytes()
        engine, timings = _build(bundle, name, library, timings, workspace)
        cache.write(identity, engine)
        cache.put(timing, timings)
        made.append(Engine(name, len(engine), time.perf_counter() - begin))
    return made


def _build(
    bundle: Bundle, name: str, library: Library, timings: bytes, workspace: int | None
) -> tuple[bytes, bytes]:
    """The serialised engine and the timings, which now hold its kernels' too."""
    trt = library.trt
    file = bundle.manifest.segments[name].file
    onnx_guard.check(bundle, file)
    builder = trt.Builder(library.logger)
    network = builder.create_network(_flags(trt))
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse_from_file(str(bundle.path / file)):
        found = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise InputFileError(
            f"TensorRT {library.version} does not take segment {name}: {found}. Export the bundle for this "
            "JetPack: mue-edge export --target jetson --backend NAME"
        )
    config = builder.create_builder_config()
    if workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    cache = config.create_timing_cache(timings)
    config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EnvironmentLacksError(_failure(bundle, name, library))
    return bytes(plan), bytes(config.get_timing_cache().serialize())


def _flags(trt: Any) -> int:
    """Types are the graph's. TensorRT 11 knows nothing else and may have no flag for it."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _failure(bundle: Bundle, name: str, library: Library) -> str:
    said = library.complaints()
    memory = "memory" in said.lower()
    cure = (
        f"close other programs, or allow less: {command_line('build', bundle.path, '--workspace', 256)}"
        if memory
        else f"then try again: {command_line('build', bundle.path)}"
    )
    free = library.cuda.free_memory() / 1e6
    return f"TensorRT could not build segment {name}: {said}. {free:.0f} MB of GPU memory are free; {cure}"
