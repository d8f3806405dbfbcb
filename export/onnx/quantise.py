"""int8: dynamic quantisation of the matrix products that have constant weights.

The stem stays in float (its convolutions would need calibration pictures), and so do the fill segments, where
one activation scale a tensor would let rows influence one another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from mue_edge.arrays import Floats

if TYPE_CHECKING:
    import onnx

    from mue_edge.models.cut import Piece

KEPT_IN_FLOAT = ("stem", "embed", "fill")


def in_int8(piece: Piece) -> bool:
    return piece.name.partition(".")[0] not in KEPT_IN_FLOAT


def int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with MatMul and Gemm weights in int8, per channel."""
    import onnx
    from onnxruntime.quantization import QuantType, onnx_quantizer, quantize_dynamic

    from mue_edge.export.formats import quiet

    with quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        del model.graph.value_info[:]  # the quantiser infers shapes itself, and trips over given ones
        # Attention and other nodes are left alone: the quantiser would break some of them.
        options = {"op_types_to_quantize": ["MatMul", "Gemm"], "weight_type": QuantType.QInt8}
        with patch.object(onnx_quantizer.ONNXQuantizer, "quantize_weight_per_channel_impl", _quantise_weight):
            quantize_dynamic(model, path, per_channel=True, **options)
        return onnx.load(str(path))


def levels(weight: Floats, axis: int) -> tuple[NDArray[np.int8], Floats]:
    """(int8 levels, a scale for each channel of the axis), bit for bit as ONNX Runtime's quantiser has them."""
    peaks = np.max(np.abs(weight), axis=tuple(i for i in range(weight.ndim) if i != axis), keepdims=True)
    exact = 2 * peaks.astype(np.float64) / 254
    scale = np.where(exact < np.finfo(np.float32).tiny, 1, exact).astype(np.float32)
    return np.clip(np.round(weight / scale), -128, 127).astype(np.int8), scale.reshape(-1)


def _quantise_weight(quantizer: Any, name: str, kind: int, axis: int, *_: Any) -> tuple[str, str, str]:
    """In the place of the quantiser's own method, which goes through a vocabulary's rows in Python."""
    from onnx import helper, numpy_helper

    weight = next(tensor for tensor in quantizer.model.initializer() if tensor.name == name)
    axis %= len(weight.dims)
    values, scale = levels(numpy_helper.to_array(weight), axis)
    names = f"{name}_quantized", f"{name}_zero_point", f"{name}_scale"
    ends = helper.make_tensor(names[2], weight.data_type, scale.shape, scale.tolist())
    zeros = helper.make_tensor(names[1], kind, scale.shape, [0] * len(scale))
    quantizer.model.initializer_extend([ends, zeros, numpy_helper.from_array(values, names[0])])
    return names
