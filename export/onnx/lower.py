"""A traced graph in another opset: the newer ones as they are, old ones with layer norms taken apart."""

from __future__ import annotations

import copy

import onnx
from onnx import helper

# The first opset that has LayerNormalization.
HAS_NORM = 17


def to_opset(model: onnx.ModelProto, opset: int, ir: int) -> onnx.ModelProto:
    """A copy of the model that says it is of that opset and IR version.

    Below opset 17 layer norms become means, differences and products. Other operators keep their form,
    which is sound for those whose meaning did not change in between: the gates' checker tells.
    """
    made = copy.deepcopy(model)
    if opset < HAS_NORM:
        _take_norms_apart(made.graph)
    del made.opset_import[:]
    made.opset_import.append(helper.make_opsetid("", opset))
    made.ir_version = ir
    return made


def _take_norms_apart(graph: onnx.GraphProto) -> None:
    nodes = [
        part
        for node in graph.node
        for part in (_norm(graph, node) if node.op_type == "LayerNormalization" else [node])
    ]
    del graph.node[:]
    graph.node.extend(nodes)


def _norm(graph: onnx.GraphProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """(x − mean) / √(variance + ε) · scale + bias over the last axis."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert given.get("axis", -1) == -1 and len(node.output) == 1
    x, scale, *bias = node.input
    out = node.output[0]
    epsilon = f"{out}.epsilon"
    graph.initializer.append(
        helper.make_tensor(epsilon, onnx.TensorProto.FLOAT, [], [given.get("epsilon", 1e-5)])
    )

    def part(operator: str, inputs: list[str], name: str, **attributes: object) -> onnx.NodeProto:
        output = out if name == "out" else f"{out}.{name}"
        return helper.make_node(operator, inputs, [output], f"{node.name}.{name}", **attributes)

    def of(name: str) -> str:
        return f"{out}.{name}"

    scaled = "scaled" if bias else "out"
    parts = [
        part("ReduceMean", [x], "mean", axes=[-1]),
        part("Sub", [x, of("mean")], "centred"),
        part("Mul", [of("centred"), of("centred")], "square"),
        part("ReduceMean", [of("square")], "variance", axes=[-1]),
        part("Add", [of("variance"), epsilon], "positive"),
        part("Sqrt", [of("positive")], "deviation"),
        part("Div", [of("centred"), of("deviation")], "unit"),
        part("Mul", [of("unit"), scale], scaled),
    ]
    return parts + ([part("Add", [of("scaled"), bias[0]], "out")] if bias else [])
