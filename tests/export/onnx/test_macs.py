"""Multiply-adds, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from mue_edge.bundle.folder import open_bundle  # noqa: E402
from mue_edge.errors import VerificationError  # noqa: E402
from mue_edge.export.onnx.macs import count  # noqa: E402


def graph(nodes: list[Any], given: dict[str, Any], weights: dict[str, tuple[int, ...]]) -> Any:
    """A model with these inputs (name → shape) and weights; its output is "y"."""
    make = onnx.helper
    kind = onnx.TensorProto.FLOAT
    return make.make_model(
        make.make_graph(
            nodes,
            "g",
            [make.make_tensor_value_info(name, kind, shape) for name, shape in given.items()],
            [make.make_tensor_value_info("y", kind, None)],
            [onnx.numpy_helper.from_array(np.zeros(s, np.float32), name) for name, s in weights.items()],
        ),
        opset_imports=[make.make_opsetid("", 18)],
    )


def test_products_and_convolutions() -> None:
    node = onnx.helper.make_node
    batched = graph([node("MatMul", ["a", "b"], ["y"])], {"a": (5, 2, 3), "b": (5, 3, 7)}, {})
    assert count(batched, "s") == 5 * 2 * 3 * 7
    turned = graph([node("Gemm", ["x", "w"], ["y"], transA=1, transB=1)], {"x": (3, 2)}, {"w": (7, 3)})
    assert count(turned, "s") == 2 * 3 * 7
    plain = graph([node("Gemm", ["x", "w"], ["y"])], {"x": (2, 3)}, {"w": (3, 7)})
    assert count(plain, "s") == 2 * 3 * 7
    # 8 × 8 → 4 × 4 outputs of 6 channels; each a 3 × 3 filter over 4 / 2 channels.
    conv = node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], group=2)
    assert count(graph([conv], {"x": (1, 4, 8, 8)}, {"w": (6, 2, 3, 3)}), "s") == 16 * 6 * 2 * 9
    two = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "v"], ["y"])]
    assert count(graph(two, {"x": (2, 3)}, {"w": (3, 4), "v": (4, 5)}), "s") == 2 * 3 * 4 + 2 * 4 * 5


def test_what_cannot_be_counted_is_an_error() -> None:
    node = onnx.helper.make_node
    with pytest.raises(VerificationError, match=r"segment image\.0.*Einsum"):
        count(graph([node("Einsum", ["a"], ["y"], equation="ij->i")], {"a": (2, 3)}, {}), "image.0")
    open_ended = graph([node("MatMul", ["a", "b"], ["y"])], {"a": ("n", 3), "b": (3, 7)}, {})
    with pytest.raises(VerificationError, match=r"image\.0.*not static"):
        count(open_ended, "image.0")


@pytest.mark.parametrize("quantised", [False, True])
def test_a_bundles_segments(quantised: bool, tiny_bundle: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    """The tiny model by hand: d = 16, ffn 24 and 20, 40 words, a 48 × 48 picture of 3 × 3 patches (the
    trunk's stride is 16), a prompt of 5 tokens, 17 cache slots, 2 heads of 8."""
    if quantised:
        from mue_edge.export.build import export

        export(tiny_model_folder, tmp_path / "int8", options={"precision": "int8"})
    segments = open_bundle(tmp_path / "int8" if quantised else tiny_bundle).manifest.segments
    assert json.loads((tiny_model_folder / "config.json").read_text())["encoder_dim"] == 16
    d, patches, words, slots = 16, 9, 5, 17
    source = patches + words
    # q, k, v and out; logits over d values and as many of the positions, then values; two products.
    assert segments["image.0"].macs == 4 * patches * d * d + patches * patches * 3 * d + 2 * patches * d * 24
    own = 4 * d * d + 2 * (slots + 1) * d
    cross = 2 * d * d + 2 * source * d
    assert segments["decoder.1"].macs == own + cross + 2 * d * 20
    assert segments["cross_kv.0"].macs == 2 * source * d * d
    assert segments["fill.2"].macs == 2 * 4 * d * d
    assert segments["head"].macs == d * 40
    assert segments["embed"].macs == 0
    assert segments["stem"].macs > 10_000
