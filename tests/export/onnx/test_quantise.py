"""int8 weights are those of ONNX Runtime's own quantiser, bit for bit."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
quantization = pytest.importorskip("onnxruntime.quantization")

from mue_edge.export.onnx import quantise  # noqa: E402


def model() -> onnx.ModelProto:
    """A MatMul and a Gemm with a transposed weight, channels of very different sizes, some of them zero."""
    rng = np.random.default_rng(0)
    sizes = 10.0 ** np.array([0, 3, -3, -20, -37, -39, -44, 0])
    first = (rng.standard_normal((16, 8)) * sizes).astype(np.float32)
    first[:, 7] = 0
    second = rng.standard_normal((300, 8)).astype(np.float32)
    weights = {"first": first, "second": second, "bias": np.ones(300, np.float32)}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "first"], ["h"]),
        onnx.helper.make_node("Gemm", ["h", "second", "bias"], ["y"], transB=1),
    ]
    ports = (onnx.helper.make_tensor_value_info(*port) for port in (("x", 1, [2, 16]), ("y", 1, [2, 300])))
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    x, y = ports
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], tensors)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


def test_weights_are_the_librarys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = quantise.int8(model())
    assert any(node.op_type == "MatMulInteger" for node in ours.graph.node)
    monkeypatch.setattr(quantise, "patch", type("", (), {"object": lambda *args: nullcontext()}))
    theirs = quantise.int8(model())
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
