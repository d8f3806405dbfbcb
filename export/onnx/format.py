"""Segments to ONNX: typed graphs with named ports that share one weights file.

Layers of one stack have the same graph: it is traced once and its weights are exchanged, if the trace kept
every weight as it is (else the piece is traced by itself)."""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnxscript  # noqa: F401  torch's exporter wants it: say so before it traces
import torch
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data

from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Manifest, Port, Segment
from mue_edge.export.exact import sums as sums  # part of the format: see `formats`
from mue_edge.export.formats import Call, Progress, Written, quiet
from mue_edge.export.onnx.graphs import Graph, copy_of
from mue_edge.export.onnx.macs import count
from mue_edge.export.onnx.quantise import int8
from mue_edge.export.onnx.screened import SUMMARY, VERSIONS, screened
from mue_edge.models.cut import Cut, Piece
from mue_edge.targets import host

PACKAGES = ("onnxruntime", "torch")
OPSET = 18
WEIGHTS = "weights.bin"
# Smaller tensors stay inside the graph: a page of the shared file would be wasted on them.
EXTERNAL_BYTES = 1024
PAGE = 4096


def write(cut: Cut, manifest: Manifest, folder: Path, progress: Progress) -> Written:
    graphs = Exporter().graphs(cut, progress)
    screens = bool(manifest.plan.get("screened"))
    if screens:
        graphs = [Graph(p, screened(m, manifest.search.eos) if p.name == "head" else m) for p, m in graphs]
    if manifest.precision == "int8":
        graphs = [Graph(p, m if screens and p.name == "head" else int8(p, m)) for p, m in graphs]
    segments = write_segments(graphs, folder)
    if not screens:
        return Written(segments)
    return Written(segments, summary=(SUMMARY,), versions=VERSIONS)


def caller(manifest: Manifest, folder: Path) -> Call:
    options = host.session_options(manifest.precision)

    def call(name: str, inputs: Sequence[Array]) -> Sequence[Array]:
        segment = manifest.segments[name]
        session = host.onnxruntime().InferenceSession(str(folder / segment.file), options)
        outputs: list[Array] = session.run(list(segment.outputs), dict(zip(segment.inputs, inputs)))
        return outputs

    return call


class Exporter:
    """Traces pieces; remembers the structures that it has seen."""

    def __init__(self) -> None:
        _read_operators_once()
        self._seen: dict[tuple[Any, ...], tuple[onnx.ModelProto, list[str]]] = {}

    def graphs(self, cut: Cut, progress: Progress) -> list[Graph]:
        graphs = []
        for i, piece in enumerate(cut.pieces):
            progress(piece.name, i, len(cut.pieces))
            graphs.append(Graph(piece, self.graph(piece)))
        return graphs

    def graph(self, piece: Piece) -> onnx.ModelProto:
        """The ONNX model of a piece, weights inside; ports named as the piece says."""
        module = piece.module.eval()
        state = {k: v.detach() for k, v in module.state_dict().items()}
        shapes = (tuple((k, tuple(v.shape)) for k, v in tensors.items()) for tensors in (piece.inputs, state))
        key = (type(module), tuple(piece.outputs), *shapes)
        if key in self._seen:
            return _reweighted(*self._seen[key], state)
        model = _trace(piece)
        names = _plain_weights(model, state)
        if names is not None:
            self._seen[key] = (model, names)
        return model


def _read_operators_once() -> None:
    """For every graph torch makes onnxscript read its table of operators from their sources, a third of the
    work: let it keep the first. Nothing is changed where a version of torch has it elsewhere."""
    try:
        operators = importlib.import_module("torch.onnx._internal._lazy_import").onnxscript_apis
        read = operators.get_torchlib_ops
    except (ImportError, AttributeError):
        return
    if not hasattr(read, "cache_clear"):
        operators.get_torchlib_ops = functools.cache(read)


def _trace(piece: Piece) -> onnx.ModelProto:
    with quiet():
        program = torch.onnx.export(
            piece.module.eval(),
            tuple(piece.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(piece.inputs),
            output_names=list(piece.outputs),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    graph = model.graph
    # The exporter's stack traces would hold paths of this machine.
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return model


def _plain_weights(model: onnx.ModelProto, state: Mapping[str, torch.Tensor]) -> list[str] | None:
    """The weights that the graph uses, or None if one was folded into something else: then the graph
    holds a float tensor that is no weight (or a weight under its name with other values)."""
    names = []
    for tensor in model.graph.initializer:
        if tensor.name in state:
            if not np.array_equal(numpy_helper.to_array(tensor), state[tensor.name].numpy()):
                return None
            names.append(tensor.name)
        elif tensor.data_type == onnx.TensorProto.FLOAT and int(np.prod(tensor.dims)) > 1:
            return None
    return names


def _reweighted(model: onnx.ModelProto, names: Sequence[str], state: Mapping[str, torch.Tensor]) -> onnx.ModelProto:
    out = copy_of(model)
    for tensor in out.graph.initializer:
        if tensor.name in names:
            tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
    return out


def _move_weights(model: onnx.ModelProto, file: BinaryIO, places: dict[bytes, int]) -> int:
    """Point a model's large tensors into the shared file, where each distinct content lies once, at the start
    of a page; places: hash → where. Returns the bytes that the model refers to."""
    total = 0
    for tensor in model.graph.initializer:
        raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        if len(raw) < EXTERNAL_BYTES:
            continue
        digest = hashlib.sha256(raw).digest()
        if digest not in places:
            file.write(b"\0" * (-file.tell() % PAGE))
            places[digest] = file.tell()
            file.write(raw)
        for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
            tensor.ClearField(field)
        tensor.raw_data = raw  # set_external_data wants it there
        set_external_data(tensor, WEIGHTS, offset=places[digest], length=len(raw))
        tensor.ClearField("raw_data")
        total += len(raw)
    return total


def write_segments(graphs: Sequence[Graph], folder: Path) -> dict[str, Segment]:
    """Write `folder`/segments/NAME.onnx and the shared weights; returns the manifest's entries."""
    (folder / "segments").mkdir(parents=True, exist_ok=True)
    entries, places = {}, dict[bytes, int]()
    with (folder / "segments" / WEIGHTS).open("wb") as file:
        for piece, model in graphs:
            size, name = _move_weights(model, file, places), f"segments/{piece.name}.onnx"
            (folder / name).write_bytes(model.SerializeToString())
            ports, macs = (_ports(model.graph.input), _ports(model.graph.output)), count(model, piece.name)
            entries[piece.name] = Segment(name, *ports, piece.stack, piece.first, piece.last, size, macs)
    return entries


def _ports(values: Sequence[onnx.ValueInfoProto]) -> dict[str, Port]:
    ports = {}
    for value in values:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        ports[value.name] = Port(tuple(d.dim_value for d in kind.shape.dim), dtype)
    return ports
