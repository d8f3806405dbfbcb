"""What `mue-edge verify --device` measures on a Jetson beside the golden answers: calls, memory, energy,
latency.
"""

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


def report(
    runtime: TensorRTRuntime, pictures: Sequence[object], policies: Sequence[Policy]
) -> dict[str, Any]:
    """Figures for the evidence file: of the GPU and its software, a launch and a wait in microseconds, memory
    in bytes, and for each policy latency and CPU time in seconds and energy in joules a caption, with
    look-ahead on and off; for the first policy also by the way of waiting."""
    library, gpu = runtime.library, runtime.library.gpu
    waits = _waits(runtime, pictures, policies[0])
    return {
        "gpu": {"name": gpu.name, "sm": gpu.sm, "memory": gpu.memory},
        "versions": {
            "tensorrt": library.version, "cuda_driver": gpu.driver, "cuda_calls": library.cuda.source,
        },
        "mode": power.mode(),
        "rails": power.rails(),
        "calls": micro(runtime),
        "captions": {p.name or p.rule: _captions(runtime, pictures, p) for p in policies},
        "waits": waits,
        "chosen": {"waits": waits["fastest"]},
        "memory": {
            "buffers": runtime.buffer_bytes(), "workspace": runtime.engines.workspace_bytes,
            "free": library.cuda.free_memory(),
        },
        "plainly_run": runtime.plainly_run(),
    }  # fmt: skip


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

    found = {"launch_us": _median(launch, calls), "read_and_wait_us": _median(wait, calls)}
    cuda.synchronize(stream)
    reads.free()
    cuda.free(pointer)
    return found


def _median(act: Callable[[], None], calls: int) -> float:
    seconds = []
    for _ in range(calls):
        begin = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * 1e6


def _captions(runtime: TensorRTRuntime, pictures: Sequence[object], policy: Policy) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, ahead in (("look_ahead", True), ("one_by_one", False)):
        runtime.look_ahead = ahead
        found[name] = _timed(runtime, pictures, policy)
    runtime.look_ahead = True
    return found


def _waits(runtime: TensorRTRuntime, pictures: Sequence[object], policy: Policy) -> dict[str, Any]:
    """The same captions by each way of waiting, and which was the fastest."""
    before = runtime.library.cuda.waits
    found: dict[str, Any] = {}
    for waits in WAITS:
        runtime.set_waits(waits)
        found[waits] = _timed(runtime, pictures, policy) | micro(runtime)
    runtime.set_waits(before)
    return {"used": before, "fastest": min(WAITS, key=lambda w: found[w]["median_s"]), "ways": found}


def _timed(runtime: TensorRTRuntime, pictures: Sequence[object], policy: Policy) -> dict[str, Any]:
    _caption(runtime, pictures[0], policy)  # the first may still capture graphs
    busy = time.process_time()
    with power.PowerMeter() as meter:
        seconds = [_caption(runtime, pictures[i % len(pictures)], policy) for i in range(CAPTIONS)]
    busy, joules = time.process_time() - busy, meter.joules
    return {
        "median_s": statistics.median(seconds), "p95_s": sorted(seconds)[int(0.95 * len(seconds))],
        "cpu_s": busy / len(seconds), "captions": len(seconds),
        "joules": None if joules is None else joules / len(seconds),
    }  # fmt: skip


def _caption(runtime: TensorRTRuntime, picture: object, policy: Policy) -> float:
    manifest = runtime.bundle.manifest
    begin = time.perf_counter()
    runtime.set_pixels(picture)
    run(manifest.layout, manifest.search, policy, runtime)
    return time.perf_counter() - begin
