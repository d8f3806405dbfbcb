"""TensorRT-RTX: every segment's typed ONNX is parsed and built ahead of time. A proxy: no GPU, nothing runs.

And what the proxy must refuse: else its acceptance would say nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorrt_rtx", reason="pip install 'mue-edge[rtx]'")
pytest.importorskip("onnxruntime", reason="ranges are scanned with onnxruntime")

import onnx
from onnx import TensorProto, helper, numpy_helper

from mue_edge.errors import VerificationError
from mue_edge.export.onnx.format import write_segments
from mue_edge.export.onnx.graphs import Graph
from mue_edge.export.onnx.half import HOST_PORTS
from mue_edge.export.tensorrt import jetpack, rtx, rtx_build
from mue_edge.export.tensorrt.format import typed
from tests.contract.adapters import Ports, signature, structures
from tests.contract.cuts import CASES, make_case
from tests.contract.typed import graphs_of, ranges_of


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp32"])
def test_segments_build_with_their_signature(precision: str, tmp_path: Path) -> None:
    pieces = structures([make_case(case) for case in CASES])
    profile = jetpack.profile(jetpack.names()[0])
    ready = {
        case: {g.piece.name: g for g in typed(graphs_of(case), precision, profile, ranges_of(case))[0]}
        for case in CASES
    }
    files = {}
    for name, (case, piece) in pieces.items():
        folder = tmp_path / name.replace("/", "-")
        graph: Graph = ready[case.name][piece.name]
        entry = write_segments([(piece, graph.model)], folder)[piece.name]
        files[name] = folder / entry.file
    found = rtx.build(files)
    assert found.keys() == pieces.keys()
    for name, built in found.items():
        inputs, outputs = ({k: tuple(v[0]) for k, v in side.items()} for side in (built["inputs"], built["outputs"]))
        assert Ports(inputs, outputs) == signature(pieces[name][1]), name
        assert built["bytes"] > 0
        types = {k: kind for side in (built["inputs"], built["outputs"]) for k, (_, kind) in side.items()}
        assert {types[port] for port in types if port in HOST_PORTS} <= {"FLOAT", "INT64"}, name
        states = {types[port] for port in ("x", "y") if port in types}
        assert states <= {"FLOAT" if precision == "fp32" else "HALF"}, name


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, list[int]]],
    out: list[int],
    weights: list[onnx.TensorProto] | None = None,
    kind: int = TensorProto.FLOAT,
    opset: int = 20,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*entry) for entry in inputs],
        [helper.make_tensor_value_info("out", kind, out)],
        weights or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def quantised(kind: int, zero: int) -> onnx.ModelProto:
    """A product between Q/DQ pairs of that type and zero point."""
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    shift = helper.make_tensor("zero", kind, [], [zero])
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "weight")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("QuantizeLinear", ["weight", "scale", "zero"], ["wq"]),
        helper.make_node("DequantizeLinear", ["wq", "scale", "zero"], ["wdq"]),
        helper.make_node("MatMul", ["dq", "wdq"], ["out"]),
    ]
    return model(nodes, [("x", TensorProto.FLOAT, [64, 64])], [64, 64], [scale, shift, weight])


def attention() -> onnx.ModelProto:
    """The operator of opset 23 in float32 at a size at which encoders need it."""
    nodes = [helper.make_node("Attention", ["q", "k", "v"], ["out"])]
    shape = [1, 12, 920, 64]
    return model(nodes, [(n, TensorProto.FLOAT, shape) for n in "qkv"], shape, opset=23)


REFUSED = {
    "fp8 on compute capability 8.6": (quantised(TensorProto.FLOAT8E4M3FN, 0), "fp8"),
    "asymmetric quantisation": (quantised(TensorProto.INT8, 3), "[zZ]ero"),
    "attention in float32": (attention(), "."),
}


def test_the_proxy_takes_the_symmetric_twin(tmp_path: Path) -> None:
    path = tmp_path / "fine.onnx"
    onnx.save(quantised(TensorProto.INT8, 0), str(path))
    assert rtx.build({"fine": path})["fine"]["bytes"] > 0


@pytest.mark.parametrize("what", REFUSED)
def test_the_proxy_refuses(what: str, tmp_path: Path) -> None:
    made, why = REFUSED[what]
    path = tmp_path / "bad.onnx"
    onnx.save(made, str(path))
    with pytest.raises(VerificationError, match=rf"(?s)not Jetson TensorRT.*bad: .*{why}"):
        rtx.build({"bad": path})


def test_it_is_named_a_proxy() -> None:
    assert rtx.label().startswith("TensorRT-RTX 1.7.") and "sm_86; not Jetson TensorRT" in rtx.label()
    assert rtx.MARK == rtx_build.MARK
