"""int8: dynamic quantisation of the matrix products that have constant weights.

The stem stays in float (its convolutions would need calibration pictures), and so do the fill segments, where
one activation scale a tensor would let rows influence one another."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from mue_edge.models.cut import Piece

KEPT_IN_FLOAT = ("stem", "embed", "fill")


def int8(piece: Piece, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with MatMul and Gemm weights in int8, per channel; unchanged where float is kept."""
    if piece.name.partition(".")[0] in KEPT_IN_FLOAT:
        return model
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from mue_edge.export.formats import quiet

    with quiet(), tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder) / "int8.onnx", copy.deepcopy(model)
        del plain.graph.value_info[:]  # the quantiser infers shapes itself, and trips over given ones
        # Attention and other nodes are left alone: the quantiser would break some of them.
        options = {"op_types_to_quantize": ["MatMul", "Gemm"], "weight_type": QuantType.QInt8}
        quantize_dynamic(plain, path, per_channel=True, **options)
        return onnx.load(str(path))
