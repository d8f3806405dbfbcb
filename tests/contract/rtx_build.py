"""Parse and build ONNX files with TensorRT-RTX; a program of its own, because the library prints.

Reads {name: path} as JSON from stdin; the last line on stdout is {name: result} as JSON. Built ahead
of time for compute capability 8.6, the nearest to Jetson Orin's 8.7 that the library knows.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import tensorrt_rtx as trt

_LOG = trt.Logger(trt.Logger.ERROR)


def build(path: str) -> dict[str, Any]:
    """Names and shapes of the bindings, bytes of the plan, or what went wrong."""
    builder = trt.Builder(_LOG)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, _LOG)
    if not parser.parse_from_file(path):
        return {"error": [parser.get_error(i).desc() for i in range(parser.num_errors)]}
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return {"error": ["the build failed"]}
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return {
        "inputs": {t.name: list(t.shape) for t in inputs},
        "outputs": {t.name: list(t.shape) for t in outputs},
        "scores": {t.name: str(t.dtype) for t in outputs if t.name in ("score", "gap")},
        "bytes": plan.nbytes,
    }


if __name__ == "__main__":
    print("\n" + json.dumps({name: build(path) for name, path in json.load(sys.stdin).items()}))
