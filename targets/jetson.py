"""The Jetson target: TensorRT on the device; elsewhere the same graphs on ONNX Runtime, to verify and to try.

`MUE_EDGE_JETSON` chooses: `tensorrt`, or `onnxruntime`, which on a Jetson uses the GPU if NVIDIA's build is
there. Without it, TensorRT is used where there is one or where this is a Jetson."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import EnvironmentLacksError, UsageError
from mue_edge.loop.driver import Runtime
from mue_edge.loop.policy import Policy
from mue_edge.measuring import profile
from mue_edge.targets.host import HostRuntime

if TYPE_CHECKING:
    from mue_edge.targets.trt.engines import Engine

CHOICE = "MUE_EDGE_JETSON"
# What JetPack leaves on a Jetson.
_RELEASE = Path("/etc/nv_tegra_release")
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


def open_runtime(bundle: Bundle, threads: int | None = None) -> Runtime:
    if chosen() == "onnxruntime":
        return HostRuntime(bundle, threads, PROVIDERS if _is_jetson() else PROVIDERS[-1:])
    from mue_edge.targets.trt import cuda
    from mue_edge.targets.trt.runtime import TensorRTRuntime

    runtime, waits = TensorRTRuntime(bundle), profile.chosen_of(bundle).get("waits")
    if waits in cuda.WAITS and not os.environ.get(cuda.CHOICE):
        runtime.set_waits(waits)
    return runtime


def chosen() -> str:
    """ "tensorrt" or "onnxruntime". Raises UsageError for another value of the variable."""
    value = os.environ.get(CHOICE, "")
    if value not in ("", "tensorrt", "onnxruntime"):
        raise UsageError(f"{CHOICE}={value!r} is neither tensorrt nor onnxruntime")
    return value or ("tensorrt" if _is_jetson() or importlib.util.find_spec("tensorrt") else "onnxruntime")


def build(bundle: Bundle, force: bool, workspace: int | None, progress: Callable[[str], object]) -> list[Engine]:
    """Engines for every segment, in the user's cache; see `trt.engines.build`."""
    from mue_edge.targets.trt import engines

    return engines.build(bundle, force=force, workspace=workspace, progress=progress)


def measure(runtime: Any, pictures: list[object], policies: list[Policy]) -> dict[str, Any]:
    """What only the device can say; see `trt.report.report`. Raises EnvironmentLacksError off the device."""
    from mue_edge.targets.trt.report import report
    from mue_edge.targets.trt.runtime import TensorRTRuntime

    if not isinstance(runtime, TensorRTRuntime):
        raise EnvironmentLacksError(
            "this ran on ONNX Runtime, not on TensorRT: only a Jetson signs off a bundle for Jetson; there: "
            "mue-edge build BUNDLE, then mue-edge verify BUNDLE --device"
        )
    return report(runtime, pictures, policies)


def _is_jetson() -> bool:
    return _RELEASE.exists() or (platform.machine() == "aarch64" and "tegra" in platform.release())
