"""How far int8 segments lie from float when their products are summed exactly: `mue-edge verify` compares.

Runtimes differ here: on x86 without VNNI, ONNX Runtime's usual kernels add pairs of products in 16 bits,
where they saturate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from mue_edge.bundle.manifest import Manifest
from mue_edge.errors import missing_extra
from mue_edge.export.ranges import as_on_devices
from mue_edge.export.reference import TorchRuntime
from mue_edge.loop.driver import set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.replay import run
from mue_edge.models.cut import Cut, Piece
from mue_edge.targets.golden import Sums, rms

Array = NDArray[Any]


def make(
    cut: Cut, manifest: Manifest, folder: Path, pixels: Array, source: tuple[int, ...] = ()
) -> list[Sums]:
    """The error by exact sums of the first segment of every stack, on what the caption of a picture
    ([1, 3, H, W]) feeds it. Segments are read from the bundle's folder; those without integer products are
    left out."""
    fed, constants = inputs(cut, manifest, pixels, source), manifest.layout.constants()
    made = []
    for stage in (stack.stages[0] for stack in manifest.layout.stacks if stack.stages):
        model = onnx.load(str(folder / manifest.segments[stage.name].file))
        if has_integers(model):
            found = answer(cut.piece(stage.name), model, fed[stage.name])
            own = {port: x for port, x in found.inputs.items() if port not in constants[stage.name]}
            made.append(replace(found, inputs=own))
    return made


def inputs(
    cut: Cut, manifest: Manifest, pixels: Array, source: tuple[int, ...] = ()
) -> dict[str, dict[str, Array]]:
    """Segment → port → what its last run was fed when the reference captioned a picture at full depth."""
    heard = {piece.name: _Heard(piece) for piece in cut.pieces}
    runtime = TorchRuntime(replace(cut, pieces=tuple(replace(p, module=heard[p.name]) for p in cut.pieces)))
    set_inputs(runtime, pixels, source)
    run(manifest.layout, manifest.search, Policy("never"), runtime, source=source)
    return {name: module.fed for name, module in heard.items() if module.fed}


def answer(piece: Piece, model: onnx.ModelProto, fed: Mapping[str, Array]) -> Sums:
    """A segment's first output in float, and how far from it the int8 graph's is by exact sums."""
    with torch.no_grad():
        out = piece.module.eval()(*(torch.from_numpy(fed[port]) for port in piece.inputs))
    wanted = (out[0] if isinstance(out, tuple) else out).numpy()
    port = piece.outputs[0]
    found = session(with_exact_sums(model)).run([port], dict(fed))[0]
    return Sums(piece.name, port, dict(fed), wanted, rms(found, wanted))


def has_integers(model: onnx.ModelProto) -> bool:
    """Whether a graph has products of integers."""
    return any(node.op_type == "MatMulInteger" for node in model.graph.node)


def with_exact_sums(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every MatMulInteger as a MatMul of 32-bit integers, which adds in 32 bits."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for node in made.graph.node:
        if node.op_type != "MatMulInteger":
            nodes.append(node)
            continue
        result, sides = node.output[0], []
        for i, name in enumerate(node.input[:2]):
            nodes.append(helper.make_node("Cast", [name], [f"{result}.{i}"], to=TensorProto.INT32))
            zero = node.input[i + 2] if len(node.input) > i + 2 else ""
            if zero:
                nodes.append(helper.make_node("Cast", [zero], [f"{result}.{i}.zero"], to=TensorProto.INT32))
                ends = [f"{result}.{i}", f"{result}.{i}.zero"]
                nodes.append(helper.make_node("Sub", ends, [f"{result}.{i}.from_zero"]))
            sides.append(f"{result}.{i}.from_zero" if zero else f"{result}.{i}")
        nodes.append(helper.make_node("MatMul", sides, [result]))
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def session(model: onnx.ModelProto) -> Any:
    """ONNX Runtime's on a graph with its weights inside."""
    try:
        import onnxruntime as ort
    except ImportError as problem:
        raise missing_extra("onnxruntime", "host") from problem
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options)


class _Heard(nn.Module):
    """A segment's module that keeps what it was last fed, as devices are fed it."""

    def __init__(self, piece: Piece) -> None:
        super().__init__()
        self._piece = piece
        self.fed: dict[str, Array] = {}

    def forward(self, *given: Tensor) -> Any:
        self.fed = {
            port: np.array(as_on_devices(x).contiguous().numpy())
            for port, x in zip(self._piece.inputs, given)
        }
        return self._piece.module.eval()(*given)
