"""The Jetson adapter's memory, CUDA graphs and look-ahead on a real GPU, without TensorRT.

    python tools/gpu_check.py BUNDLE [--out gpu.json]

BUNDLE was exported with `--target jetson`. Ends with 6 if something did not hold, with 5 and what is missing
where there is no GPU. Everything is the adapter's own over real CUDA calls, but for
TensorRT: an engine is the segment's ONNX graph, run by ONNX Runtime on the CPU from a host function in the
stream, between copies of its inputs and outputs. So order, buffers, graphs and waits are the GPU's; kernels
and their speed are not. Captions must be the host's.

**Never run on a GPU yet: unverified.** It is meant to take a minute or two on any NVIDIA GPU with a driver of
CUDA 12 or later, and needs mue-edge's extras jetson-device and host.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
for name in ("numpy", "click", "onnxruntime"):
    if importlib.util.find_spec(name) is None:
        print(f"error: {name} is not installed: pip install '.[jetson-device,host]'", file=sys.stderr)
        sys.exit(5)

import numpy as np  # noqa: E402

from mue_edge import machine  # noqa: E402
from mue_edge.bundle.folder import Bundle, open_bundle  # noqa: E402
from mue_edge.bundle.manifest import Port  # noqa: E402
from mue_edge.bundle.policy_files import from_json  # noqa: E402
from mue_edge.errors import EnvironmentLacksError, MueEdgeError, UsageError  # noqa: E402
from mue_edge.loop.policy import Policy  # noqa: E402
from mue_edge.loop.replay import run  # noqa: E402
from mue_edge.targets import golden  # noqa: E402
from mue_edge.targets.host import HostRuntime  # noqa: E402
from mue_edge.targets.trt import cuda, memory, report  # noqa: E402
from mue_edge.targets.trt.engines import build  # noqa: E402
from mue_edge.targets.trt.runtime import TensorRTRuntime  # noqa: E402
from tests.targets.trt import fake_tensorrt  # noqa: E402

LABEL = "CUDA calls on a GPU, engines by ONNX Runtime in host functions; not TensorRT"
CYCLES = 3
# What the driver and CUDA keep for themselves after the first runtime was closed.
SLACK = 8 << 20
Work = Callable[[], None]
Launch = Callable[[int, Work], None]


def host_functions() -> Launch:
    """Puts Python on a stream: (stream, work). By the driver, whose host functions live as long as a graph of
    them; what cuda-python makes for one is freed after its first run."""
    try:
        driver, kept = ctypes.CDLL("libcuda.so.1"), list[Any]()
    except OSError as problem:
        raise EnvironmentLacksError(f"NVIDIA's driver library cannot be loaded: {problem}") from problem
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def launch(stream: int, work: Work) -> None:
        kept.append(kind(lambda _: work()))
        status = driver.cuLaunchHostFunc(ctypes.c_void_p(stream), kept[-1], None)
        if status:
            raise EnvironmentLacksError(f"cuLaunchHostFunc failed: {status}")

    return launch


class Engines(fake_tensorrt.FakeTensorRT):
    """The tests' stand-in of TensorRT, with contexts that work on a real stream."""

    def __init__(self, calls: cuda.Cuda, launch: Launch) -> None:
        super().__init__(SimpleNamespace(sm=calls.gpu().sm.split(".")))  # type: ignore[arg-type]
        self.calls, self.launch, self.problems = calls, launch, list[str]()

    def Runtime(self, logger: Any) -> Any:
        engines, plain = self, super().Runtime(logger)

        def load(raw: bytes) -> Any:
            engine = plain.deserialize_cuda_engine(raw)
            engine.create_execution_context = lambda strategy: Context(engines, engine)
            return engine

        return SimpleNamespace(deserialize_cuda_engine=load)


class Context:
    """A segment on the stream: inputs to the host, ONNX Runtime there, outputs to the device."""

    def __init__(self, engines: Engines, engine: Any) -> None:
        self._engines, self._engine = engines, engine
        self._addresses: dict[str, int] = {}
        self._pinned: dict[str, memory.Pinned] = {}

    def set_device_memory(self, pointer: int, size: int) -> None:
        assert pointer and size >= self._engine.device_memory_size_v2

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self._addresses[name] = pointer
        return name in self._engine.ports

    def execute_async_v3(self, stream: int) -> bool:
        calls, engine = self._engines.calls, self._engine
        if not self._pinned:  # in the first run: nothing may be allocated while a graph is captured
            ports = {name: Port(*port) for name, port in engine.ports.items()}
            self._pinned = {name: memory.Pinned(calls, port) for name, port in ports.items()}
        outputs = [name for name in engine.ports if name not in engine.inputs]
        for name in engine.inputs:
            held = self._pinned[name]
            calls.download(held.pointer, self._addresses[name], held.bytes, stream)
        self._engines.launch(stream, lambda: self._run(outputs))
        for name in outputs:
            held = self._pinned[name]
            calls.upload(self._addresses[name], held.pointer, held.bytes, stream)
        return True

    def _run(self, outputs: list[str]) -> None:
        try:
            feeds = {name: self._pinned[name].array for name in self._engine.inputs}
            for name, value in zip(outputs, self._engine.session.run(outputs, feeds)):
                self._pinned[name].array[...] = value
        except Exception as problem:  # nothing may leave a function that CUDA calls
            self._engines.problems.append(f"{self._engine.path}: {problem}")

    def __del__(self) -> None:
        for held in self._pinned.values():
            held.free()


def checked(bundle: Bundle, calls: cuda.Cuda, launch: Launch, pictures: int) -> dict[str, Any]:
    """Every figure; `failed` names what did not hold."""
    engines = Engines(calls, launch)
    sys.modules["tensorrt"] = engines  # type: ignore[assignment]
    raw, logs = golden.read(bundle)
    shown = [golden.pixels(picture, bundle.manifest.preprocess) for picture in raw[:pictures]]
    exits = {json.dumps(entry.policy): from_json(entry.policy) for entry in logs}
    policies = [*bundle.manifest.policies().values(), *exits.values()]
    host = HostRuntime(bundle, 1)
    wanted = [_caption(bundle, host, policy, picture) for policy in policies for picture in shown]
    host.close()
    failed = {} if _staged(calls) else {"staging": "a value was overwritten before it was copied"}
    free, found = list[int](), dict[str, Any]()
    build(bundle)
    for _ in range(CYCLES):
        device = TensorRTRuntime(bundle)
        for way in ("look_ahead", "one_by_one"):
            device.look_ahead = way == "look_ahead"
            begin = time.perf_counter()
            got = [_caption(bundle, device, policy, picture) for policy in policies for picture in shown]
            equal = sum(a == b for a, b in zip(wanted, got, strict=True))
            found[way] = {"equal": equal, "captions": len(got), "seconds": round(time.perf_counter() - begin, 2)}
            if equal < len(got):
                failed[way] = f"{len(got) - equal} of {len(got)} captions are not the host's"
        if device.plainly_run():
            failed["graphs"] = f"not captured: {device.plainly_run()}"
        found["graphs"] = sum(bound.graph is not None for bound in device._bound.values())
        found["calls"] = {waits: _waited(device, waits) for waits in cuda.WAITS}
        device.close()
        free.append(calls.free_memory())
    if free[-1] < free[0] - SLACK:
        failed["memory"] = f"free bytes after each runtime was closed: {free}"
    if engines.problems:
        failed["engines"] = engines.problems[0]
    return {"gpu": vars(calls.gpu()), "cuda_calls": calls.source, **found, "free": free, "failed": failed}


def _waited(device: TensorRTRuntime, waits: str) -> dict[str, float]:
    device.set_waits(waits)
    return report.micro(device)


def _caption(bundle: Bundle, runtime: Any, policy: Policy, picture: object) -> Any:
    runtime.set_pixels(picture)
    made = run(bundle.manifest.layout, bundle.manifest.search, policy, runtime)
    return made.hypotheses[0].tokens, dict(made.depths), made.steps


def _staged(calls: cuda.Cuda) -> bool:
    """Whether two values for one buffer, both used before anybody waits, arrive as they were."""
    stream, port = calls.stream(), Port((1 << 20,), "float32")
    buffers = [memory.Buffer(calls.malloc(memory.size(port)), port) for _ in range(3)]
    staging = memory.Staging(calls, stream, buffers[0])
    for value, kept in ((1.0, buffers[1]), (2.0, buffers[2])):
        staging.fill(value)
        calls.copy(kept.pointer, buffers[0].pointer, kept.bytes, stream)
    reads = memory.Readback(calls, stream, {"first": buffers[1], "second": buffers[2]})
    reads.start()
    values = reads.wait()
    right = bool(np.all(values["first"] == 1) and np.all(values["second"] == 2))
    staging.free()
    reads.free()
    for buffer in buffers:
        calls.call("cudaFree", buffer.pointer)
    calls.call("cudaStreamDestroy", stream)
    return right


@contextmanager
def _own_cache() -> Iterator[None]:
    """No stand-in's engine may lie where real ones are kept."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    bundle = open_bundle(asked.bundle)
    if bundle.manifest.target != "jetson":
        raise UsageError(
            f"{asked.bundle} is for {bundle.manifest.target}; make one with: mue-edge export stickers --target jetson"
        )
    with _own_cache():
        found = checked(bundle, cuda.Cuda(), host_functions(), asked.pictures)
    record = {
        "what": LABEL, "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bundle": bundle.manifest.name, "device": machine.device(), "versions": machine.versions(), **found,
    }  # fmt: skip
    text = json.dumps(record, indent=1)
    print(text)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")
    return 6 if found["failed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MueEdgeError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(problem.exit_code)
