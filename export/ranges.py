"""The largest magnitude of every value inside every segment, over captions of some pictures.

What half precision can hold and what an int8 scale must span follow from it. The graphs themselves are run,
in the order of the host loop, each with one output more: a vector of maxima.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor, nn

from mue_edge.errors import missing_extra
from mue_edge.export.reference import TorchRuntime
from mue_edge.loop.driver import set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import MASKED, Layout
from mue_edge.loop.replay import run
from mue_edge.loop.search import SearchSettings
from mue_edge.models.cut import Cut, Piece
from mue_edge.sessions.captioner import AlternatingExits

_PEAKS = "mue_edge.peaks"
# Segment → value → largest magnitude; a segment that no caption ran is absent.
Ranges = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Graph:
    """A piece and its traced float32 graph."""

    piece: Piece
    model: onnx.ModelProto


def scan(
    cut: Cut, graphs: Sequence[Graph], layout: Layout, search: SearchSettings, pictures: Iterable[object],
    step: Callable[[], object] = lambda: None,
) -> Ranges:  # fmt: skip
    """Caption every picture ([1, 3, H, W]) at full depth, and so that rows of skipped layers are filled."""
    watched = {graph.piece.name: _Watched(graph) for graph in graphs}
    runtime = TorchRuntime(replace(cut, pieces=tuple(replace(p, module=watched[p.name]) for p in cut.pieces)))
    for i, picture in enumerate(pictures):
        for policy in (Policy("never"), AlternatingExits()):
            source = cut.sources[i % len(cut.sources)] if cut.sources else ()
            set_inputs(runtime, picture, source)
            run(layout, search, policy, runtime, trace=True, heads=True, source=source)
        step()
    return {name: module.peaks for name, module in watched.items() if module.peaks}


class _Watched(nn.Module):
    """A segment in ONNX Runtime in the place of its torch module; the session is made when it is first
    run."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        self._session: Any = None
        self._names: list[str] = []
        self.peaks: dict[str, float] = {}

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        piece = self._graph.piece
        if self._session is None:
            self._names, self._session = _session(self._graph.model)
        feeds = {port: as_on_devices(x).contiguous().numpy() for port, x in zip(piece.inputs, inputs)}
        *found, peaks = self._session.run([*piece.outputs, _PEAKS], feeds)
        for name, peak in zip(self._names, peaks.tolist()):
            self.peaks[name] = max(peak, self.peaks.get(name, 0.0))
        return tuple(map(torch.from_numpy, found))


def as_on_devices(x: Tensor) -> Tensor:
    """The reference hides cache slots with a number that devices do not use."""
    return torch.where(x < -1e8, MASKED, x) if x.is_floating_point() else x


def _session(model: onnx.ModelProto) -> tuple[list[str], Any]:
    try:
        import onnxruntime as ort
    except ImportError as problem:
        raise missing_extra("onnxruntime", "host") from problem
    names = list(floats(model))
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    graph.initializer.append(helper.make_tensor(f"{_PEAKS}.shape", onnx.TensorProto.INT64, [1], [1]))
    for i, name in enumerate(names):
        graph.node.extend([
            helper.make_node("Abs", [name], [f"{_PEAKS}.{i}.abs"]),
            helper.make_node("ReduceMax", [f"{_PEAKS}.{i}.abs"], [f"{_PEAKS}.{i}.max"], keepdims=0),
            helper.make_node("Reshape", [f"{_PEAKS}.{i}.max", f"{_PEAKS}.shape"], [f"{_PEAKS}.{i}"]),
        ])  # fmt: skip
    graph.node.append(
        helper.make_node("Concat", [f"{_PEAKS}.{i}" for i in range(len(names))], [_PEAKS], axis=0)
    )
    graph.output.append(helper.make_tensor_value_info(_PEAKS, onnx.TensorProto.FLOAT, [len(names)]))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    # Fusing would hide the values that are looked for.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return names, ort.InferenceSession(made.SerializeToString(), options)


def floats(model: onnx.ModelProto) -> set[str]:
    """Names of the float32 values of a graph that are no weights, inputs and outputs included."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    weights = {tensor.name for tensor in graph.initializer}
    values = (*graph.input, *graph.value_info, *graph.output)
    float32 = {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return float32 - weights


def peak_of_weights(model: onnx.ModelProto) -> dict[str, float]:
    """Largest magnitude of every float32 weight."""
    return {tensor.name: float(np.max(np.abs(array), initial=0.0)) for tensor, array in weights(model)}


def weights(model: onnx.ModelProto) -> Iterable[tuple[onnx.TensorProto, NDArray[np.float32]]]:
    """The float32 weights of a graph and their values."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            yield tensor, onnx.numpy_helper.to_array(tensor)
