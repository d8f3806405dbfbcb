"""What `mue-edge verify --device` measures on a Jetson: calls, memory, energy, latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from mue_edge.bundle.manifest import Port
from mue_edge.loop.policy import Policy
from mue_edge.loop.replay import run
from mue_edge.targets.trt import power
from mue_edge.targets.trt.cuda import WAITS
from mue_edge.targets.trt.memory import Buffer, Readback, size
from mue_edge.targets.trt.runtime import TensorRTRuntime

CALLS = 200
CAPTIONS = 40
_WORD = Port((1,), "float32")


def report(runtime: TensorRTRuntime, pictures: Sequence[object], policies: Sequence[Policy]) -> dict[str, Any]:
    """Figures for the evidence file: of the GPU and its software, a launch and a wait in microseconds, memory
    in bytes, and for each policy latency and CPU time in seconds and energy in joules a caption, with and
    without look-ahead; for the first policy also by the way of waiting."""
    cuda, gpu = runtime.library.cuda, runtime.library.gpu
    versions = {"tensorrt": runtime.library.version, "cuda_driver": gpu.driver, "cuda_calls": cuda.source}
    workspace = runtime.engines.workspace_bytes
    waits = _waits(runtime, pictures, policies[0])
    return {
        "gpu": {"name": gpu.name, "sm": gpu.sm, "memory": gpu.memory},
        "versions": versions,
        "mode": power.mode(),
        "rails": list(power.rails()),
        "calls": micro(runtime),
        "captions": {p.name or p.rule: _captions(runtime, pictures, p) for p in policies},
        "waits": waits,
        "chosen": {"waits": waits["fastest"]},
        "memory": {"buffers": runtime.buffer_bytes(), "workspace": workspace, "free": cuda.free_memory()},
        "plainly_run": runtime.plainly_run(),
    }


def micro(runtime: TensorRTRuntime, calls: int = CALLS) -> dict[str, float]:
    """Microseconds (medians): enqueuing a small copy, and waiting for one by event."""
    cuda, stream = runtime.library.cuda, runtime.stream
    pointer = cuda.malloc(2 * size(_WORD))
    word = Buffer(pointer, _WORD)
    reads = Readback(cuda, stream, {"word": word})

    def launch() -> None:
        cuda.copy(pointer + word.bytes, pointer, word.bytes, stream)

    def wait() -> None:
        reads.start()
        reads.wait()

    medians = {"launch_us": _median(launch, calls), "read_and_wait_us": _median(wait, calls)}
    cuda.call("cudaStreamSynchronize", stream)
    reads.free()
    cuda.call("cudaFree", pointer)
    return medians


def _median(act: Callable[[], None], calls: int) -> float:
    seconds = []
    for _ in range(calls):
        begin = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * 1e6


def _captions(runtime: TensorRTRuntime, pictures: Sequence[object], policy: Policy) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, ahead in (("look_ahead", True), ("one_by_one", False)):
        runtime.look_ahead = ahead
        figures[name] = _timed(runtime, pictures, policy)
    runtime.look_ahead = True
    return figures


def _waits(runtime: TensorRTRuntime, pictures: Sequence[object], policy: Policy) -> dict[str, Any]:
    """The same captions by each way of waiting, and which was the fastest."""
    before = runtime.library.cuda.waits
    ways: dict[str, Any] = {}
    for waits in WAITS:
        runtime.set_waits(waits)
        ways[waits] = _timed(runtime, pictures, policy) | micro(runtime)
    runtime.set_waits(before)
    return {"used": before, "fastest": min(WAITS, key=lambda w: ways[w]["median_s"]), "ways": ways}


def _timed(runtime: TensorRTRuntime, pictures: Sequence[object], policy: Policy) -> dict[str, Any]:
    _caption(runtime, pictures[0], policy)  # the first may still capture graphs
    before = time.process_time()
    with power.PowerMeter() as meter:
        seconds = [_caption(runtime, pictures[i % len(pictures)], policy) for i in range(CAPTIONS)]
    cpu, joules = time.process_time() - before, meter.joules
    return {
        "median_s": statistics.median(seconds),
        "p95_s": sorted(seconds)[int(0.95 * CAPTIONS)],
        "cpu_s": cpu / CAPTIONS,
        "captions": CAPTIONS,
        "joules": None if joules is None else joules / CAPTIONS,
    }


def _caption(runtime: TensorRTRuntime, picture: object, policy: Policy) -> float:
    manifest = runtime.bundle.manifest
    begin = time.perf_counter()
    runtime.set_pixels(picture)
    run(manifest.layout, manifest.search, policy, runtime)
    return time.perf_counter() - begin
