"""Segments to ONNX: typed graphs with named ports that share one weights file.

Layers of one stack have the same graph: it is traced once and its weights are exchanged, if the trace kept
every weight as it is (else the piece is traced by itself)."""

from __future__ import annotations

import copy
import functools
import gc
import hashlib
import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir
import onnxscript  # noqa: F401  torch's exporter wants it: say so before it traces
import torch
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data, uses_external_data

from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Manifest, Port, Segment
from mue_edge.export.exact import sums as sums  # part of the format: see `formats`
from mue_edge.export.formats import Call, Written, quiet
from mue_edge.export.onnx.fused import write_fused
from mue_edge.export.onnx.graphs import Graph, copy_of
from mue_edge.export.onnx.macs import count
from mue_edge.export.onnx.quantise import in_int8, int8
from mue_edge.export.onnx.screened import SUMMARY, VERSIONS, screened
from mue_edge.export.progress import Progress
from mue_edge.models.cut import Cut, Piece
from mue_edge.targets import host, target

PACKAGES = ("onnxruntime", "torch")
OPSET = 18
WEIGHTS = "weights.bin"
# Smaller tensors stay inside the graph: a page of the shared file would be wasted on them.
EXTERNAL_BYTES = 1024
PAGE = 4096


def write(cut: Cut, manifest: Manifest, folder: Path, progress: Progress) -> Written:
    exporter, total = Exporter(), len(cut.pieces)
    screens = bool(manifest.plan.get("screened"))

    def graphs() -> Iterator[Graph]:
        """One after the other, so that the weights of one piece at most are in memory twice."""
        for i, piece in enumerate(cut.pieces):
            progress(piece.name, i, total)
            if screens and piece.name == "head":
                yield Graph(piece, screened(exporter.graph(piece), manifest.search.eos))
            elif manifest.precision == "int8" and in_int8(piece):
                yield Graph(piece, int8(exporter.graph(piece)))
            else:
                yield Graph(piece, exporter.structure(piece))

    segments = write_segments(graphs(), folder)
    fused = write_fused(replace(manifest, segments=segments), folder) if target(manifest.target).fuses else {}
    if not screens:
        return Written(segments, fused=fused)
    return Written(segments, summary=(SUMMARY,), versions=VERSIONS, fused=fused)


def caller(manifest: Manifest, folder: Path) -> Call:
    options = host.session_options(manifest.precision)
    # A session runs once: packing would cost more than it saves, and copy the weights.
    options.add_session_config_entry("session.disable_prepacking", "1")

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
        self._seen: dict[tuple[Any, ...], onnx.ModelProto] = {}

    def graphs(self, cut: Cut, progress: Progress) -> list[Graph]:
        graphs = []
        for i, piece in enumerate(cut.pieces):
            progress(piece.name, i, len(cut.pieces))
            graphs.append(Graph(piece, self.graph(piece)))
        return graphs

    def graph(self, piece: Piece) -> onnx.ModelProto:
        """The ONNX model of a piece, weights inside; ports named as the piece says."""
        model, state = self.structure(piece), _state(piece)
        for tensor in model.graph.initializer:
            if uses_external_data(tensor):
                tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
        return model

    def structure(self, piece: Piece) -> onnx.ModelProto:
        """The same without the weights that it has as they are in the piece: external data that lies nowhere."""
        state = _state(piece)
        shapes = (tuple((k, tuple(v.shape)) for k, v in tensors.items()) for tensors in (piece.inputs, state))
        key = (type(piece.module), tuple(piece.outputs), *shapes)
        if key in self._seen:
            return copy_of(self._seen[key])
        model, plain = _trace(piece, state)
        gc.collect()  # the tracer's copies of the weights
        if plain:
            self._seen[key] = copy_of(model)
        return model


def _state(piece: Piece) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in piece.module.eval().state_dict().items()}


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


def trace(piece: Piece, varying: Any = None) -> onnx.ModelProto:
    """The ONNX model of a piece, weights inside; varying: torch.export's `dynamic_shapes`, where sizes vary."""
    return _trace(piece, {}, varying)[0]


def _trace(piece: Piece, state: Mapping[str, torch.Tensor], varying: Any = None) -> tuple[onnx.ModelProto, bool]:
    """The model of a piece, and whether it is plain: then its weights are left out (`Exporter.structure`)."""
    # The tracer keeps some weights for ever, and with one of them the whole mapped file: it is given copies.
    module = copy.deepcopy(piece.module.eval())
    with quiet():
        program = torch.onnx.export(
            module,
            tuple(piece.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(piece.inputs),
            output_names=list(piece.outputs),
            verbose=False,
            dynamic_shapes=varying,
        )
    assert program is not None
    initializers: dict[str, Any] = dict(program.model.graph.initializers)
    plain = all(_is_plain(value.const_value, state.get(name)) for name, value in initializers.items())
    for name in initializers.keys() & state.keys() if plain else ():
        weight = initializers[name].const_value
        hollow = onnx_ir.ExternalTensor(WEIGHTS, None, None, weight.dtype, shape=weight.shape, name=name)
        initializers[name].const_value = hollow
    model: onnx.ModelProto = program.model_proto
    graph = model.graph
    # The exporter's stack traces would hold paths of this machine.
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model, plain


def _is_plain(tensor: Any, weight: torch.Tensor | None) -> bool:
    """Whether it is that weight as it is, or too small to hold one. Else a weight was folded into something
    else: then the graph holds floats that are no weight, or a weight under its name with other values."""
    if weight is not None:
        raw = getattr(tensor, "raw", None)
        return isinstance(raw, torch.Tensor) and torch.equal(raw, weight)
    return bool(tensor.dtype != onnx_ir.DataType.FLOAT or tensor.size <= 1)


def _move_weights(piece: Piece, model: onnx.ModelProto, file: BinaryIO, places: dict[bytes, int]) -> int:
    """Point a model's large tensors into the shared file, where each distinct content lies once, at the start
    of a page; places: hash → where. Returns the bytes that the model refers to."""
    total, state = 0, _state(piece)
    for tensor in model.graph.initializer:
        raw: bytes | memoryview
        if uses_external_data(tensor):
            weight = state[tensor.name].contiguous().numpy()
            raw = weight.reshape(-1).view(np.uint8).data  # not a copy
            if len(raw) < EXTERNAL_BYTES:
                tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
        else:
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
        tensor.raw_data = b""  # set_external_data wants it there
        set_external_data(tensor, WEIGHTS, offset=places[digest], length=len(raw))
        tensor.ClearField("raw_data")
        total += len(raw)
    return total


def write_segments(graphs: Iterable[Graph], folder: Path) -> dict[str, Segment]:
    """Write `folder`/segments/NAME.onnx and the shared weights; returns the manifest's entries."""
    (folder / "segments").mkdir(parents=True, exist_ok=True)
    entries, places = {}, dict[bytes, int]()
    with (folder / "segments" / WEIGHTS).open("wb") as file:
        for piece, model in graphs:
            size, name = _move_weights(piece, model, file, places), f"segments/{piece.name}.onnx"
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
