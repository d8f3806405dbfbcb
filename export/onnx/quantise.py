"""int8: dynamic quantisation of the matrix products that have constant weights.

The stem stays in float (its convolutions would need calibration pictures), and so do the fill segments, where
one activation scale a tensor would let rows influence one another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from mue_edge.models.cut import Piece

KEPT_IN_FLOAT = ("stem", "embed", "fill")


def in_int8(piece: Piece) -> bool:
    return piece.name.partition(".")[0] not in KEPT_IN_FLOAT


def int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with MatMul and Gemm weights in int8, per channel."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from mue_edge.export.formats import quiet

    with quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        del model.graph.value_info[:]  # the quantiser infers shapes itself, and trips over given ones
        # Attention and other nodes are left alone: the quantiser would break some of them.
        options = {"op_types_to_quantize": ["MatMul", "Gemm"], "weight_type": QuantType.QInt8}
        quantize_dynamic(model, path, per_channel=True, **options)
        return onnx.load(str(path))
