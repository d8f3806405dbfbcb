"""The largest magnitude of every value inside every segment, over captions of some pictures: what half
precision can hold and what an int8 scale must span follow from it. The graphs themselves are run, in the
order of the host loop, each with one output more: a vector of maxima."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor

from mue_edge.export.onnx.graphs import Graph, copy_of, float_values, session
from mue_edge.export.reference import TorchRuntime
from mue_edge.loop.driver import set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import MASKED, Layout
from mue_edge.loop.replay import run
from mue_edge.loop.search import SearchSettings
from mue_edge.models.cut import Cut, Piece
from mue_edge.sessions.captioner import AlternatingExits
from mue_edge.targets import host

_PEAKS = "mue_edge.peaks"
# Segment → value → largest magnitude; a segment that no caption ran is absent.
Ranges = Mapping[str, Mapping[str, float]]


def scan(
    cut: Cut,
    graphs: Sequence[Graph],
    layout: Layout,
    search: SearchSettings,
    pictures: Iterable[object],
    step: Callable[[], object] = lambda: None,
) -> Ranges:
    """Caption every picture ([1, 3, H, W]) at full depth, and so that rows of skipped layers are filled."""
    models = {graph.piece.name: graph.model for graph in graphs}
    sessions: dict[str, tuple[list[str], Any]] = {}
    peaks: dict[str, dict[str, float]] = {}

    def run_graph(piece: Piece, inputs: Sequence[Tensor]) -> list[Tensor]:
        """In ONNX Runtime in the place of the torch module; the session is made when it is first run."""
        if piece.name not in sessions:
            sessions[piece.name] = _with_peaks(models[piece.name])
        names, session = sessions[piece.name]
        *results, largest = session.run([*piece.outputs, _PEAKS], fed(piece, inputs))
        before = peaks.setdefault(piece.name, {})
        for name, peak in zip(names, largest.tolist()):
            before[name] = max(peak, before.get(name, 0.0))
        return list(map(torch.from_numpy, results))

    runtime = TorchRuntime(cut, run_graph)
    for i, picture in enumerate(pictures):
        for policy in (Policy("never"), AlternatingExits()):
            source = cut.sources[i % len(cut.sources)] if cut.sources else ()
            set_inputs(runtime, picture, source)
            run(layout, search, policy, runtime, trace=True, heads=True, source=source)
        step()
    return peaks


def fed(piece: Piece, inputs: Sequence[Tensor]) -> dict[str, Any]:
    """Port → the array that devices feed it: the reference hides cache slots with another number than
    they."""
    hidden = (torch.where(x < -1e8, MASKED, x) if x.is_floating_point() else x for x in inputs)
    return {port: x.contiguous().numpy() for port, x in zip(piece.inputs, hidden)}


def _with_peaks(model: onnx.ModelProto) -> tuple[list[str], Any]:
    names = list(float_values(model))
    out = copy_of(model)
    graph = out.graph
    graph.initializer.append(helper.make_tensor(f"{_PEAKS}.shape", onnx.TensorProto.INT64, [1], [1]))
    peaks = [f"{_PEAKS}.{i}" for i in range(len(names))]
    for name, peak in zip(names, peaks):
        graph.node.append(helper.make_node("Abs", [name], [f"{peak}.abs"]))
        graph.node.append(helper.make_node("ReduceMax", [f"{peak}.abs"], [f"{peak}.max"], keepdims=0))
        graph.node.append(helper.make_node("Reshape", [f"{peak}.max", f"{_PEAKS}.shape"], [peak]))
    graph.node.append(helper.make_node("Concat", peaks, [_PEAKS], axis=0))
    graph.output.append(helper.make_tensor_value_info(_PEAKS, onnx.TensorProto.FLOAT, [len(names)]))
    options = host.session_options()
    options.intra_op_num_threads = torch.get_num_threads()
    # Fusing would hide the values that are looked for.
    options.graph_optimization_level = host.onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    return names, session(out, options)
