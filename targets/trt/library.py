"""The installed TensorRT: its import, its messages, and what an engine made by it depends on."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from mue_edge.bundle.folder import Bundle
from mue_edge.errors import EnvironmentLacksError
from mue_edge.targets.trt.cuda import Cuda
from mue_edge.versions import fits


@dataclass(frozen=True)
class Identity:
    """An engine runs where all of this is the same, and nowhere else. segment: hash of the graph and of the
    weights that it refers to."""

    segment: str
    tensorrt: str
    sm: str
    driver: str


class Library:
    """TensorRT and CUDA of this machine. Raises EnvironmentLacksError where one of them is missing."""

    def __init__(self) -> None:
        try:
            trt: Any = importlib.import_module("tensorrt")
        except ImportError as problem:
            raise EnvironmentLacksError(
                f"TensorRT's Python module is not here ({problem}). On a Jetson it comes with JetPack: sudo "
                "apt install python3-libnvinfer, and a virtual environment made with --system-site-packages. "
                "On another machine try the bundle with: MUE_EDGE_JETSON=onnxruntime"
            ) from problem
        errors: list[str] = []

        class Logger(trt.ILogger):  # type: ignore[misc]
            """Keeps errors. The class is made here, since its base comes with TensorRT."""

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                    errors.append(message)

        self.trt = trt
        self.errors, self.logger = errors, Logger()
        self.cuda = Cuda()
        self.gpu = self.cuda.gpu()

    @property
    def version(self) -> str:
        return str(self.trt.__version__)

    def identity(self, segment: str) -> Identity:
        """Of an engine made here of a segment with that hash."""
        return Identity(segment, self.version, self.gpu.sm, self.gpu.driver)

    def check(self, bundle: Bundle) -> None:
        """Raises EnvironmentLacksError if the bundle was exported for another TensorRT than this one."""
        wanted = bundle.manifest.runtime.versions
        if not fits(self.version, wanted):
            raise EnvironmentLacksError(
                f"{bundle.path} was exported for TensorRT {wanted}, here is {self.version}; export it for "
                "this JetPack: mue-edge export --target jetson --backend jetpack-6|jetpack-7"
            )

    def complaints(self) -> str:
        """TensorRT's error messages since the last call, in one line."""
        messages = dict.fromkeys(message.strip() for message in self.errors)
        self.errors.clear()
        return "; ".join(messages) or "TensorRT says no more"
