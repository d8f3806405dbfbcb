"""ONNX graphs as data: their float values, copies with other nodes, and sessions that run them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from mue_edge.models.cut import Piece
from mue_edge.targets import host


class Graph(NamedTuple):
    """A piece and its graph."""

    piece: Piece
    model: ModelProto


def copy_of(model: ModelProto) -> ModelProto:
    out = ModelProto()
    out.CopyFrom(model)
    return out


def replace(field: Any, values: Iterable[Any]) -> None:
    """Put other values into a repeated field."""
    values = list(values)
    del field[:]
    field.extend(values)


def users(graph: onnx.GraphProto) -> dict[str, list[NodeProto]]:
    """Value → the nodes that read it."""
    nodes: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            nodes.setdefault(name, []).append(node)
    return nodes


def float_weights(model: ModelProto) -> dict[str, TensorProto]:
    return {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}


def float_values(model: ModelProto) -> set[str]:
    """Names of the float32 values that are no weights, inputs and outputs included."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    float32 = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return float32 - {tensor.name for tensor in graph.initializer}


def constant(graph: onnx.GraphProto, name: str, value: Any) -> str:
    """Add an array to a graph's constants; returns its name."""
    graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def session(model: ModelProto, options: Any = None) -> Any:
    """ONNX Runtime's on a graph with its weights inside. Raises EnvironmentLacksError without it."""
    return host.onnxruntime().InferenceSession(model.SerializeToString(), options or host.session_options())
