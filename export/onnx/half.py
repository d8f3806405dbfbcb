"""Typed half precision: a float32 graph rewritten so that its types say what is computed in what.

float16 is the rule. float32 stay what the host reads (exit scores, log-probabilities) with the nodes that
only it depends on, and every node that a range scan has seen near the end of float16, norms by the square of
their input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mue_edge.export.ranges import Ranges, floats, peak_of_weights
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
    "x": "states", "y": "states", "image_x": "states", "text_x": "states", "encoder_x": "states",
    "slots": "cache", "kv_rows": "cache",
    "k": "cross", "v": "cross", "cross_k": "cross", "cross_v": "cross",
}  # fmt: skip
_PRODUCTS = ("MatMul", "Gemm", "Conv")


@dataclass(frozen=True)
class Half:
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
    known = {**peaks, **peak_of_weights(model)}
    tail = _tail(model.graph)
    demanded = [n for n in model.graph.node if n.output[0] not in tail and _is_demanded(n, known)]
    wanted = {n.output[0] for n in demanded} | tail
    made = _Writer(model, wanted, wide).write()
    return Half(made, tuple(_title(node, model.graph) for node in demanded))


def _is_demanded(node: onnx.NodeProto, peaks: Mapping[str, float]) -> bool:
    largest = max((peaks.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
    in_norm = node.op_type == "LayerNormalization" and peaks.get(node.input[0], 0.0) > LARGEST_IN_NORM
    return largest > LARGEST or in_norm


def _tail(graph: onnx.GraphProto) -> set[str]:
    """First outputs of the nodes that lead to nothing but float32 ports and are and have after them no matrix
    product: the head's product itself is not in it, its log-sum-exp is."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    ports = {value.name for value in graph.output}
    found: set[str] = set()
    for node in reversed(graph.node):
        plain = all(
            (name in HOST_PORTS if name in ports else True)
            and all(user.output[0] in found for user in users.get(name, []))
            and (name in ports or name in users)
            for name in node.output
            if name
        )
        if plain and node.op_type not in _PRODUCTS:
            found.add(node.output[0])
    return found


def _title(node: onnx.NodeProto, graph: onnx.GraphProto) -> str:
    """How a report names a node: by its parameters where it has some."""
    parameters = {tensor.name for tensor in graph.initializer}
    named = [name for name in node.input if name in parameters and name.endswith(".weight")]
    return named[0].removesuffix(".weight") if named else f"{node.op_type} {node.output[0]}"


class _Writer:
    """Writes the nodes one after the other, with casts where precisions meet."""

    def __init__(self, model: onnx.ModelProto, wanted: set[str], wide: frozenset[str]) -> None:
        self.model, self.wanted, self.wide = model, wanted, wide
        self.float_values = floats(model)
        self.weights = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
        self.nodes: list[onnx.NodeProto] = []
        self.types: dict[str, int] = {}
        self.made: set[str] = set()
        self.initializers: list[onnx.TensorProto] = []

    def write(self) -> onnx.ModelProto:
        out = onnx.ModelProto()
        out.CopyFrom(self.model)
        graph = out.graph
        self.initializers = [t for t in graph.initializer if t.name not in self.weights]
        for value in graph.input:
            if value.name in self.float_values:
                self.types[value.name] = value.type.tensor_type.elem_type = self._port(value.name)
        ports = {v.name: self._port(v.name) for v in graph.output if v.name in self.float_values}
        for node in self.model.graph.node:
            self._node(node, ports)
        for value in graph.output:
            if value.name in ports:
                value.type.tensor_type.elem_type = ports[value.name]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.initializers)
        return out

    def _port(self, name: str) -> int:
        wide = name in HOST_PORTS or kind(name) in self.wide
        return int(TensorProto.FLOAT if wide else TensorProto.FLOAT16)

    def _node(self, node: onnx.NodeProto, ports: Mapping[str, int]) -> None:
        precision = TensorProto.FLOAT if node.output[0] in self.wanted else TensorProto.FLOAT16
        made = onnx.NodeProto()
        made.CopyFrom(node)
        made.input[:] = [self._input(name, precision) for name in node.input]
        after = []
        for i, name in enumerate(node.output):
            if name not in self.float_values:
                continue
            self.types[name] = precision
            if ports.get(name, precision) != precision:
                inner = f"{name}.typed"
                made.output[i] = inner
                after.append(_cast(inner, name, ports[name]))
                self.types[name] = ports[name]
        self.nodes += [made, *after]

    def _input(self, name: str, precision: int) -> str:
        """The name under which a value is had in that precision."""
        short = "fp16" if precision == TensorProto.FLOAT16 else "fp32"
        if name in self.weights:
            typed = name if precision == TensorProto.FLOAT16 else f"{name}.{short}"
            if typed not in self.made:
                array = numpy_helper.to_array(self.weights[name])
                kept = array.astype(helper.tensor_dtype_to_np_dtype(precision))
                self.initializers.append(numpy_helper.from_array(kept, typed))
                self.made.add(typed)
            return typed
        if name not in self.float_values or self.types[name] == precision:
            return name
        typed = f"{name}.{short}"
        if typed not in self.made:
            self.nodes.append(_cast(name, typed, precision))
            self.made.add(typed)
        return typed


def _cast(name: str, out: str, precision: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [out], f"cast.{out}", to=precision)
