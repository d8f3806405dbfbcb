"""How much a graph multiplies: the multiply-adds of its matrix products and convolutions, from static shapes.
Element-wise work, norms, softmax and look-ups cost memory traffic, not arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx

from mue_edge.errors import VerificationError

Shape = tuple[int, ...]
# Operator → multiply-adds, of the shapes of its inputs and of its first output.
# Each output value of a product is a sum over K, the last axis of A; of a convolution, a sum over
# one filter [C_out, C_in / group, kernel …].
_COUNTS: dict[str, Callable[[list[Shape], Shape, onnx.NodeProto], int]] = {
    "MatMul": lambda inputs, out, node: math.prod(out) * inputs[0][-1],
    "Gemm": lambda inputs, out, node: math.prod(out) * inputs[0][0 if _flag(node, "transA") else 1],
    "Conv": lambda inputs, out, node: math.prod(out) * math.prod(inputs[1][1:]),
}
_COUNTS["MatMulNBits"] = _COUNTS["MatMul"]
_COUNTS |= {f"{kind}Integer": _COUNTS[kind] for kind in ("MatMul", "Conv")}
# These multiply too, but no segment has had them: better an error than a count that leaves them out.
_UNKNOWN = frozenset({"Attention", "ConvTranspose", "Einsum", "GRU", "LSTM", "QLinearConv", "QLinearMatMul"})


def count(model: onnx.ModelProto, name: str) -> int:
    """Multiply-adds of one run of a graph, in float or int8 alike; weights need not be loaded. Raises
    VerificationError for a shape that is not static or an operator that multiplies in an unknown way."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        dims = tuple(d.dim_value for d in kind.shape.dim)
        if kind.HasField("shape") and all(dims):
            shapes[value.name] = dims
    total = 0
    for node in model.graph.node:
        if node.op_type in _UNKNOWN:
            raise VerificationError(f"segment {name}: no rule counts the multiply-adds of {node.op_type}")
        if node.op_type in _COUNTS:
            for port in (*node.input[:2], node.output[0]):
                if port not in shapes:
                    raise VerificationError(f"segment {name}: the shape of {port!r} is not static")
            inputs = [shapes[port] for port in node.input[:2]]
            total += _COUNTS[node.op_type](inputs, shapes[node.output[0]], node)
    return total


def _flag(node: onnx.NodeProto, attribute: str) -> bool:
    return any(a.name == attribute and a.i for a in node.attribute)
