"""Gates that a segment's graph passes before it is called fit for a TensorRT, on any machine, without a GPU:
necessary, not sufficient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

from mue_edge.errors import VerificationError
from mue_edge.export.tensorrt import jetpack
from mue_edge.export.tensorrt.jetpack import JetPackProfile

# What counts as ONNX's own operators; anything else would need a plugin.
_STANDARD = ("", "ai.onnx")


def check(model: onnx.ModelProto, name: str, profile: JetPackProfile) -> None:
    """Raises VerificationError, with every finding, for a graph that the profile's TensorRT cannot take:
    opset and IR version, operators and tensor types of the version's table, static shapes, symmetric
    quantisation, and ONNX's own checker with shape inference."""
    findings = list(_findings(model, profile)) or list(_onnx_checker(model))
    if findings:
        raise VerificationError(
            f"segment {name} is not fit for {profile.title} (TensorRT {profile.tensorrt}): "
            + "; ".join(dict.fromkeys(findings))
        )


def _findings(model: onnx.ModelProto, profile: JetPackProfile) -> Iterator[str]:
    table = jetpack.operators(profile.operators)
    for entry in model.opset_import:
        if entry.domain in _STANDARD and entry.version > profile.max_opset:
            yield f"opset {entry.version}, at most {profile.max_opset} is taken"
    if model.ir_version > profile.ir:
        yield f"IR version {model.ir_version}, at most {profile.ir} is taken"
    for node in _nodes(model.graph):
        if node.domain not in _STANDARD:
            yield f"operator {node.domain}::{node.op_type} would need a plugin"
        elif node.op_type not in table.operators:
            yield f"operator {node.op_type} is not in the table of TensorRT {profile.operators}"
    yield from _types(model.graph, table.types)
    yield from _quantisation(model.graph)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _types(graph: onnx.GraphProto, allowed: tuple[str, ...]) -> Iterator[str]:
    name = onnx.TensorProto.DataType.Name
    for tensor in graph.initializer:
        if name(tensor.data_type) not in allowed:
            yield f"weight {tensor.name} is {name(tensor.data_type)}"
    for value in (*graph.input, *graph.output):
        kind = value.type.tensor_type
        if name(kind.elem_type) not in allowed:
            yield f"port {value.name} is {name(kind.elem_type)}"
        if not kind.HasField("shape") or not all(d.dim_value > 0 for d in kind.shape.dim):
            yield f"port {value.name} has no static shape"


def _quantisation(graph: onnx.GraphProto) -> Iterator[str]:
    """Zero points must be zero and int8."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        zero = weights.get(node.input[2])
        if zero is None or zero.data_type != onnx.TensorProto.INT8 or np.any(numpy_helper.to_array(zero)):
            yield f"{node.op_type} of {node.input[0]} is not symmetric int8"


def _onnx_checker(model: onnx.ModelProto) -> Iterator[str]:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as problem:
        yield f"ONNX's checker: {str(problem).strip().splitlines()[0]}"
