"""int8 for TensorRT: pairs of QuantizeLinear and DequantizeLinear around products with constant weights.

Symmetric, as TensorRT demands: zero points are 0. Weights have a scale for each output channel, activations
one for the tensor, from the largest magnitude of a range scan; values beyond it are clipped.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

# Rows of skipped layers must come out as the decoder's own would; a look-up has nothing to multiply.
KEPT_IN_FLOAT = ("embed", "fill", "text_stem")
LEVELS = 127
# A float16 below this has fewer digits than a scale needs.
SMALLEST = 2.0**-14
# Axis of the output channels of a weight.
_CHANNELS = {"Conv": 0, "MatMul": 1}


def int8(name: str, model: onnx.ModelProto, peaks: Mapping[str, float]) -> onnx.ModelProto:
    """A float32 copy with Q/DQ pairs; unchanged where float is kept. `peaks` is the segment's row of a scan.

    A product whose input the scan has not seen stays in float.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    if name.partition(".")[0] in KEPT_IN_FLOAT:
        return made
    weights = {t.name: t for t in made.graph.initializer if t.data_type == TensorProto.FLOAT}
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in made.graph.node:
        x = node.input[0] if node.input else ""
        if node.op_type in ("MatMul", "Gemm", "Conv") and node.input[1] in weights and peaks.get(x):
            if x not in done:
                scale = np.float32(max(peaks[x] / LEVELS, SMALLEST))
                nodes += _pair(made.graph, x, np.asarray(scale))
                done.add(x)
            if node.input[1] not in done:
                nodes += _weight(made.graph, weights[node.input[1]], _axis(node))
                done.add(node.input[1])
            node.input[0], node.input[1] = f"{x}.dq", f"{node.input[1]}.dq"
        nodes.append(node)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    _drop_unused(made.graph)
    return made


def _axis(node: onnx.NodeProto) -> int:
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return _CHANNELS[node.op_type]


def _pair(graph: onnx.GraphProto, x: str, scale: NDArray[np.float32]) -> list[onnx.NodeProto]:
    _constants(graph, x, scale)
    ends = [f"{x}.scale", f"{x}.zero"]
    return [
        helper.make_node("QuantizeLinear", [x, *ends], [f"{x}.q"], f"{x}.quantize"),
        helper.make_node("DequantizeLinear", [f"{x}.q", *ends], [f"{x}.dq"], f"{x}.dequantize"),
    ]


def _weight(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int) -> list[onnx.NodeProto]:
    value = numpy_helper.to_array(tensor)
    others = tuple(i for i in range(value.ndim) if i != axis)
    scale = np.maximum(np.abs(value).max(axis=others) / LEVELS, SMALLEST).astype(np.float32)
    shaped = scale.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
    levels = np.clip(np.rint(value / shaped), -LEVELS, LEVELS).astype(np.int8)
    name = tensor.name
    graph.initializer.append(numpy_helper.from_array(levels, f"{name}.q"))
    _constants(graph, name, scale)
    ends = [f"{name}.scale", f"{name}.zero"]
    return [
        helper.make_node(
            "DequantizeLinear", [f"{name}.q", *ends], [f"{name}.dq"], f"{name}.dequantize", axis=axis
        )
    ]


def _constants(graph: onnx.GraphProto, name: str, scale: NDArray[np.float32]) -> None:
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), f"{name}.zero"))


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
