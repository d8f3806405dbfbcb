"""The CUDA calls that the adapter makes, through `cuda-python`'s runtime bindings or libcudart itself.

Pointers are integers, streams and events are the binding's own handles. Every call's status is checked.
`MUE_EDGE_WAITS` says how to wait for the GPU: see `WAITS`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mue_edge.errors import EnvironmentLacksError, UsageError
from mue_edge.targets.trt import cudart

# cudaEventDisableTiming: an event that is only waited for costs less.
_NO_TIMING = 0x02
_EVENT_BLOCKS = 0x01
_NON_BLOCKING = 0x01
# cudaDeviceSchedule…: "auto" may block on a Tegra in a low power mode, "spin" keeps a core busy and answers
# soonest, "block" leaves the core to others.
WAITS = {"auto": 0, "spin": 1, "block": 4}
CHOICE = "MUE_EDGE_WAITS"


@dataclass(frozen=True)
class Gpu:
    """What an engine depends on, and the memory in bytes. sm: compute capability, "8.7"."""

    name: str
    sm: str
    driver: str
    memory: int


class Cuda:
    """The first GPU. source: what makes the calls; waits: of `WAITS`."""

    def __init__(self) -> None:
        waits = os.environ.get(CHOICE) or "auto"
        if waits not in WAITS:
            raise UsageError(f"{CHOICE}={waits!r} is none of {', '.join(WAITS)}")
        self._rt = _runtime()
        self.source, self.waits = str(self._rt.__name__), "auto"
        if self.call("cudaGetDeviceCount", missing=True) < 1:
            raise EnvironmentLacksError("CUDA finds no GPU here; a bundle for Jetson runs on a Jetson")
        kinds = self._rt.cudaMemcpyKind
        self._to_device, self._to_host = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost
        self._within = kinds.cudaMemcpyDeviceToDevice
        if waits != self.waits:
            self.set_waits(waits)

    def set_waits(self, waits: str) -> None:
        """How to wait from now on; an event keeps the way of the time when it was made."""
        self.call("cudaSetDeviceFlags", WAITS[waits])
        self.waits = waits

    def gpu(self) -> Gpu:
        gpu, driver = self.call("cudaGetDeviceProperties", 0), self.call("cudaDriverGetVersion")
        name = gpu.name.decode() if isinstance(gpu.name, bytes) else str(gpu.name)
        version = f"{driver // 1000}.{driver % 1000 // 10}"
        return Gpu(name.rstrip("\0"), f"{gpu.major}.{gpu.minor}", version, int(gpu.totalGlobalMem))

    def free_memory(self) -> int:
        """Bytes that are free now; on a Jetson the system's and the GPU's memory are one."""
        free, _ = self.call("cudaMemGetInfo")
        return int(free)

    def malloc(self, size: int) -> int:
        return int(self.call("cudaMalloc", max(1, size)))

    def pinned(self, size: int) -> int:
        return int(self.call("cudaMallocHost", max(1, size)))

    def stream(self) -> Any:
        return self.call("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def event(self) -> Any:
        blocks = _EVENT_BLOCKS if self.waits == "block" else 0
        return self.call("cudaEventCreateWithFlags", _NO_TIMING | blocks)

    def upload(self, device: int, host: int, size: int, stream: Any) -> None:
        self.call("cudaMemcpyAsync", device, host, size, self._to_device, stream)

    def download(self, host: int, device: int, size: int, stream: Any) -> None:
        self.call("cudaMemcpyAsync", host, device, size, self._to_host, stream)

    def copy(self, to: int, source: int, size: int, stream: Any) -> None:
        self.call("cudaMemcpyAsync", to, source, size, self._within, stream)

    def copy_rows(self, to: int, to_pitch: int, source: int, pitch: int, width: int, rows: int, stream: Any) -> None:
        """`rows` runs of `width` bytes, their starts `pitch` bytes apart."""
        self.call("cudaMemcpy2DAsync", to, to_pitch, source, pitch, width, rows, self._within, stream)

    def zero(self, pointer: int, size: int, stream: Any) -> None:
        self.call("cudaMemsetAsync", pointer, 0, size, stream)

    def begin_capture(self, stream: Any) -> None:
        mode = self._rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: Any) -> Any:
        """What was captured, ready to be launched."""
        graph = self.call("cudaStreamEndCapture", stream)
        executable = self.call("cudaGraphInstantiate", graph, 0)
        self.call("cudaGraphDestroy", graph)
        return executable

    def call(self, name: str, *arguments: Any, missing: bool = False) -> Any:
        """What a function of CUDA's returns beside its status. Raises EnvironmentLacksError if it fails."""
        status, *values = getattr(self._rt, name)(*arguments)
        if int(status) == 0:
            return values[0] if len(values) == 1 else tuple(values)
        error = str(getattr(status, "name", status))
        if "MemoryAllocation" in error:
            raise EnvironmentLacksError(
                f"the GPU has no memory left ({name}); close other programs, or export a smaller --image-size"
            )
        what = "CUDA finds no GPU or no driver" if missing else f"CUDA's {name} failed"
        raise EnvironmentLacksError(
            f"{what}: {error} ({int(status)}). A bundle for Jetson runs on a Jetson; on another machine try "
            "it with: MUE_EDGE_JETSON=onnxruntime"
        )


def _runtime() -> Any:
    """The first source of CUDA calls that finds a GPU, else the first that is there, which then says why.
    Raises EnvironmentLacksError if none is there."""
    without_gpu, problems = [], []
    for load in _sources():
        try:
            runtime = load()
            status, *_ = runtime.cudaGetDeviceCount()
        except (ImportError, OSError, RuntimeError, AttributeError) as problem:
            problems.append(str(problem))
            continue
        if int(status) == 0:
            return runtime
        without_gpu.append(runtime)
    if without_gpu:
        return without_gpu[0]
    raise EnvironmentLacksError(
        f"neither cuda-python nor libcudart can be loaded ({'; '.join(problems)}); on a Jetson: "
        "pip install 'mue-edge[jetson-device]', or sudo apt install the cuda-cudart of your JetPack"
    )


def _sources() -> Iterator[Callable[[], Any]]:
    for module in ("cuda.bindings.runtime", "cuda.cudart"):  # the second before cuda-python 12.6
        yield partial(importlib.import_module, module)
    for name in cudart.NAMES:
        yield partial(cudart.Cudart, name)
