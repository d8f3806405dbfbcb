"""int8 for TensorRT: pairs of QuantizeLinear and DequantizeLinear around products with constant weights.

Symmetric, as TensorRT demands: zero points are 0. Weights have a scale for each output channel, activations
one for the tensor, from the largest magnitude of a range scan; values beyond it are clipped."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mue_edge.arrays import Array
from mue_edge.export.onnx.graphs import constant, copy_of, float_weights, replace

# Rows of skipped layers must come out as the decoder's own would; a look-up has nothing to multiply.
KEPT_IN_FLOAT = ("embed", "fill", "text_stem")
LEVELS = 127
# A float16 below this has fewer digits than a scale needs.
SMALLEST = 2.0**-14


def int8(name: str, model: onnx.ModelProto, peaks: Mapping[str, float]) -> onnx.ModelProto:
    """A float32 copy with Q/DQ pairs; unchanged where float is kept. peaks: the segment's row of a scan; a
    product whose input it lacks stays in float."""
    out = copy_of(model)
    if name.partition(".")[0] in KEPT_IN_FLOAT:
        return out
    graph, weights = out.graph, float_weights(out)
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in graph.node:
        x, weight = (*node.input, "", "")[:2]
        if node.op_type in ("MatMul", "Gemm", "Conv") and weight in weights and peaks.get(x):
            if x not in done:
                scale = np.asarray(np.float32(max(peaks[x] / LEVELS, SMALLEST)))
                ends = _scale(graph, x, scale)
                nodes.append(helper.make_node("QuantizeLinear", [x, *ends], [f"{x}.q"], f"{x}.quantize"))
                nodes.append(_dequantize(x, ends))
            if weight not in done:
                axis = _axis(node)
                levels, scale = _levels(numpy_helper.to_array(weights[weight]), axis)
                constant(graph, f"{weight}.q", levels)
                nodes.append(_dequantize(weight, _scale(graph, weight, scale), axis=axis))
            done |= {x, weight}
            node.input[0], node.input[1] = f"{x}.dq", f"{weight}.dq"
        nodes.append(node)
    replace(graph.node, nodes)
    used = {name for node in graph.node for name in node.input}
    replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])
    return out


def _axis(node: onnx.NodeProto) -> int:
    """The axis of the output channels of a product's weight."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return 0 if node.op_type == "Conv" else 1


def _levels(weight: Array, axis: int) -> tuple[Array, Array]:
    """(levels in int8, a scale for each channel of the axis)."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True) / LEVELS, SMALLEST).astype(np.float32)
    levels = np.clip(np.rint(weight / scale), -LEVELS, LEVELS).astype(np.int8)
    return levels, scale.reshape(-1)


def _scale(graph: onnx.GraphProto, name: str, scale: Array) -> list[str]:
    """Names of the scale and the zero point of a tensor, which are added to the graph."""
    zero = np.zeros(scale.shape, np.int8)
    return [constant(graph, f"{name}.scale", scale), constant(graph, f"{name}.zero", zero)]


def _dequantize(name: str, ends: list[str], **axis: int) -> onnx.NodeProto:
    ports = [f"{name}.q", *ends], [f"{name}.dq"]
    return helper.make_node("DequantizeLinear", *ports, f"{name}.dequantize", **axis)
