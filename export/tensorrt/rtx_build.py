"""Parse and build ONNX files with TensorRT-RTX; a program of its own, because the library prints.

Reads {name: path} as JSON from stdin; writes a JSON line for each on stdout, beginning with MARK. Built ahead
of time, without a GPU, for compute capability 8.6, the nearest to Jetson Orin's 8.7 that the library knows.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import tensorrt_rtx as trt

MARK = "rtx:"


class _Log(trt.ILogger):  # type: ignore[misc]
    """Keeps errors: the parser and the builder return no more than that something went wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
            self.errors.append(message)


def build(path: str) -> dict[str, Any]:
    """Names, shapes and types of the bindings, bytes of the plan, or what went wrong."""
    log = _Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(path):
        return {"error": [parser.get_error(i).desc() for i in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return {"error": log.errors or ["the build failed"]}
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return {
        "inputs": {t.name: [list(t.shape), t.dtype.name] for t in inputs},
        "outputs": {t.name: [list(t.shape), t.dtype.name] for t in outputs},
        "bytes": plan.nbytes,
    }


if __name__ == "__main__":
    for name, path in json.load(sys.stdin).items():
        print(f"\n{MARK}{json.dumps({name: build(path)})}", flush=True)
