"""A traced graph in another opset: the newer ones as they are, old ones with layer norms taken apart."""

from __future__ import annotations

import onnx
from onnx import helper

from mue_edge.export.onnx.graphs import copy_of, replace

# The first opset that has LayerNormalization.
HAS_NORM = 17


def to_opset(model: onnx.ModelProto, opset: int, ir: int) -> onnx.ModelProto:
    """A copy of the model that says it is of that opset and IR version. Below opset 17 layer norms become
    means, differences and products; other operators keep their form, which the gates' checker judges."""
    out = copy_of(model)
    if opset < HAS_NORM:
        graph = out.graph
        parts = (_parts(graph, n) if n.op_type == "LayerNormalization" else [n] for n in model.graph.node)
        replace(graph.node, [part for node in parts for part in node])
    replace(out.opset_import, [helper.make_opsetid("", opset)])
    out.ir_version = ir
    return out


def _parts(graph: onnx.GraphProto, norm: onnx.NodeProto) -> list[onnx.NodeProto]:
    """(x − mean) / √(variance + ε) · scale + bias over the last axis."""
    options = {a.name: helper.get_attribute_value(a) for a in norm.attribute}
    assert options.get("axis", -1) == -1 and len(norm.output) == 1
    x, scale, *bias = norm.input
    (out,) = norm.output
    epsilon = f"{out}.epsilon"
    value = options.get("epsilon", 1e-5)
    graph.initializer.append(helper.make_tensor(epsilon, onnx.TensorProto.FLOAT, [], [value]))
    nodes: list[onnx.NodeProto] = []

    def part(operator: str, inputs: list[str], name: str, **attributes: object) -> str:
        output = out if name == "out" else f"{out}.{name}"
        nodes.append(helper.make_node(operator, inputs, [output], f"{norm.name}.{name}", **attributes))
        return output

    centred = part("Sub", [x, part("ReduceMean", [x], "mean", axes=[-1])], "centred")
    variance = part("ReduceMean", [part("Mul", [centred, centred], "square")], "variance", axes=[-1])
    deviation = part("Sqrt", [part("Add", [variance, epsilon], "positive")], "deviation")
    unit = part("Div", [centred, deviation], "unit")
    scaled = part("Mul", [unit, scale], "scaled" if bias else "out")
    if bias:
        part("Add", [scaled, *bias], "out")
    return nodes
