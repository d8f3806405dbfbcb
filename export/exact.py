"""How far int8 segments lie from float when their products are summed exactly: `mue-edge verify` compares.

Runtimes differ here: on x86 without VNNI, ONNX Runtime's usual kernels add pairs of products in 16 bits,
where they saturate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from mue_edge.arrays import Array
from mue_edge.bundle.manifest import Manifest
from mue_edge.export.formats import outputs
from mue_edge.export.onnx.graphs import copy_of, replace, session
from mue_edge.export.ranges import fed
from mue_edge.export.reference import TorchRuntime
from mue_edge.loop.driver import set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.replay import run
from mue_edge.models.cut import Cut, Piece
from mue_edge.targets.golden import Sums, rms


def sums(cut: Cut, manifest: Manifest, folder: Path, pixels: Array, source: tuple[int, ...] = ()) -> list[Sums]:
    """The error by exact sums of the first segment of every stack that has integer products, read from the
    bundle's folder, on what the caption of a picture ([1, 3, H, W]) feeds it at full depth."""
    inputs: dict[str, list[Tensor]] = {}

    def record(piece: Piece, values: Sequence[Tensor]) -> Sequence[Tensor]:
        inputs[piece.name] = [x.clone() for x in values]
        return outputs(piece, values)

    runtime = TorchRuntime(cut, record)
    set_inputs(runtime, pixels, source)
    run(manifest.layout, manifest.search, Policy("never"), runtime, source=source)
    constants, results = manifest.layout.constants(), []
    for stage in (stack.stages[0] for stack in manifest.layout.stacks if stack.stages):
        model = onnx.load(str(folder / manifest.segments[stage.name].file))
        if not has_integers(model):
            continue
        piece = cut.piece(stage.name)
        feeds, port = fed(piece, inputs[piece.name]), piece.outputs[0]
        wanted = outputs(piece, [torch.from_numpy(feeds[name]) for name in piece.inputs])[0].numpy()
        exact = session(with_exact_sums(model)).run([port], feeds)[0]
        own = {name: x for name, x in feeds.items() if name not in constants[piece.name]}
        results.append(Sums(piece.name, port, own, wanted, rms(exact, wanted)))
    return results


def has_integers(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "MatMulInteger" for node in model.graph.node)


def with_exact_sums(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with every MatMulInteger as a MatMul of 32-bit integers, which adds in 32 bits."""
    out, nodes = copy_of(model), list[onnx.NodeProto]()

    def part(operator: str, inputs: list[str], name: str, **attributes: int) -> str:
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    for node in out.graph.node:
        if node.op_type != "MatMulInteger":
            nodes.append(node)
            continue
        result, sides = node.output[0], []
        for i, name in enumerate(node.input[:2]):
            side = part("Cast", [name], f"{result}.{i}", to=TensorProto.INT32)
            zero = node.input[i + 2] if len(node.input) > i + 2 else ""
            if zero:
                zero = part("Cast", [zero], f"{side}.zero", to=TensorProto.INT32)
                side = part("Sub", [side, zero], f"{side}.from_zero")
            sides.append(side)
        part("MatMul", sides, result)
    replace(out.graph.node, nodes)
    return out
