"""Typed half precision: a float32 graph rewritten so that its types say what is computed in what.

float16 is the rule. float32 are what the host reads (exit scores, log-probabilities) with the nodes that only
it depends on, and every node whose values a range scan found near the end of float16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mue_edge.export.onnx.graphs import copy_of, float_values, float_weights, replace, users
from mue_edge.export.ranges import Ranges
from mue_edge.loop.protocol import HEAD_PORTS
from mue_edge.loop.signals import PORTS

# Pictures of the scan are few: a value may become this much larger.
HEADROOM = 4.0
LARGEST = float(np.finfo(np.float16).max) / HEADROOM
# A norm sums squares, and TensorRT is free to do so in the type of its input.
LARGEST_IN_NORM = LARGEST**0.5
# What the host reads or writes as float32 whatever the precision is.
HOST_PORTS = frozenset((*PORTS, *HEAD_PORTS, "pixels"))
# Ports that pass one kind of buffer between segments have one type.
_KINDS = {
    **dict.fromkeys(("x", "y", "image_x", "text_x", "encoder_x"), "states"),
    **dict.fromkeys(("slots", "kv_rows"), "cache"),
    **dict.fromkeys(("k", "v", "cross_k", "cross_v"), "cross"),
}
_PRODUCTS = ("MatMul", "Gemm", "Conv")


class Half(NamedTuple):
    """A typed graph, and what the scan made it keep in float32."""

    model: onnx.ModelProto
    kept: tuple[str, ...]


def kind(port: str) -> str:
    """What a port carries: ports of one kind have one type in all segments."""
    return _KINDS.get(port, port)


def wide_kinds(ranges: Ranges, ports: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Kinds of ports that some segment has seen near the end of float16. ports: segment → its ports."""
    return frozenset(
        kind(port)
        for segment, names in ports.items()
        for port in names
        if port not in HOST_PORTS and ranges.get(segment, {}).get(port, 0.0) > LARGEST
    )


def half(model: onnx.ModelProto, peaks: Mapping[str, float], wide: frozenset[str]) -> Half:
    """The typed copy of a float32 model; `peaks` are its row of a scan, `wide` the kinds of float32 ports."""
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in float_weights(model).items()}
    largest = {**peaks, **{name: float(np.max(np.abs(x), initial=0.0)) for name, x in arrays.items()}}
    tail = _tail(model.graph)
    loud = [n for n in model.graph.node if n.output[0] not in tail and _overflows(n, largest)]
    typed = _Writer(model, tail | {n.output[0] for n in loud}, wide).write()
    return Half(typed, tuple(_title(node, model.graph) for node in loud))


def _overflows(node: onnx.NodeProto, peaks: Mapping[str, float]) -> bool:
    largest = max((peaks.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
    in_norm = node.op_type == "LayerNormalization" and peaks.get(node.input[0], 0.0) > LARGEST_IN_NORM
    return largest > LARGEST or in_norm


def _tail(graph: onnx.GraphProto) -> set[str]:
    """First outputs of the nodes that lead to nothing but float32 ports and are and have after them no matrix
    product: the head's product itself is not in it, its log-sum-exp is."""
    readers, ports = users(graph), {value.name for value in graph.output}
    tail: set[str] = set()

    def leads_to_host(name: str) -> bool:
        after = readers.get(name, [])
        if name in ports and name not in HOST_PORTS:
            return False
        return (name in ports or bool(after)) and all(node.output[0] in tail for node in after)

    for node in reversed(graph.node):
        if node.op_type not in _PRODUCTS and all(map(leads_to_host, filter(None, node.output))):
            tail.add(node.output[0])
    return tail


def _title(node: onnx.NodeProto, graph: onnx.GraphProto) -> str:
    """How a report names a node: by its parameters where it has some."""
    parameters = {tensor.name for tensor in graph.initializer}
    named = [name for name in node.input if name in parameters and name.endswith(".weight")]
    return named[0].removesuffix(".weight") if named else f"{node.op_type} {node.output[0]}"


class _Writer:
    """Writes the nodes one after the other, with casts where precisions meet. float32: first outputs of the
    nodes that keep it; wide: kinds of ports that do."""

    def __init__(self, model: onnx.ModelProto, float32: set[str], wide: frozenset[str]) -> None:
        self._model, self._float32, self._wide = model, float32, wide
        self._values, self._weights = float_values(model), float_weights(model)
        self._nodes: list[onnx.NodeProto] = []
        self._types: dict[str, int] = {}
        self._typed: set[str] = set()
        self._initializers = [t for t in model.graph.initializer if t.name not in self._weights]

    def write(self) -> onnx.ModelProto:
        out = copy_of(self._model)
        graph = out.graph
        for value in graph.input:
            if value.name in self._values:
                self._types[value.name] = value.type.tensor_type.elem_type = self._port(value.name)
        ports = {v.name: self._port(v.name) for v in graph.output if v.name in self._values}
        for node in self._model.graph.node:
            self._node(node, ports)
        for value in graph.output:
            if value.name in ports:
                value.type.tensor_type.elem_type = ports[value.name]
        replace(graph.node, self._nodes)
        replace(graph.initializer, self._initializers)
        del graph.value_info[:]
        return out

    def _port(self, name: str) -> int:
        wide = name in HOST_PORTS or kind(name) in self._wide
        return int(TensorProto.FLOAT if wide else TensorProto.FLOAT16)

    def _node(self, node: onnx.NodeProto, ports: Mapping[str, int]) -> None:
        precision = TensorProto.FLOAT if node.output[0] in self._float32 else TensorProto.FLOAT16
        typed = onnx.NodeProto()
        typed.CopyFrom(node)
        typed.input[:] = [self._input(name, precision) for name in node.input]
        self._nodes.append(typed)
        for i, name in enumerate(node.output):
            if name not in self._values:
                continue
            self._types[name] = ports.get(name, precision)
            if self._types[name] != precision:
                typed.output[i] = f"{name}.typed"
                self._cast(f"{name}.typed", name, self._types[name])

    def _input(self, name: str, precision: int) -> str:
        """The name under which a value is had in that precision."""
        half = precision == TensorProto.FLOAT16
        typed = f"{name}.fp16" if half else f"{name}.fp32"
        if name in self._weights:
            typed = name if half else typed
        elif name not in self._values or self._types[name] == precision:
            return name
        if typed not in self._typed:
            self._typed.add(typed)
            if name in self._weights:
                array = numpy_helper.to_array(self._weights[name])
                array = array.astype(helper.tensor_dtype_to_np_dtype(precision))
                self._initializers.append(numpy_helper.from_array(array, typed))
            else:
                self._cast(name, typed, precision)
        return typed

    def _cast(self, name: str, out: str, precision: int) -> None:
        self._nodes.append(helper.make_node("Cast", [name], [out], f"cast.{out}", to=precision))
