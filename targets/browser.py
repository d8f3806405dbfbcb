"""The browser target: in a page onnxruntime-web (apps/web/page/runtime.mjs), elsewhere ONNX Runtime."""

from __future__ import annotations

from mue_edge.bundle.folder import Bundle
from mue_edge.targets import host


def open_runtime(bundle: Bundle, threads: int | None = None) -> host.HostRuntime:
    return host.open_runtime(bundle, threads)
