"""Constants that are stored smaller than they are used: quantised and palettised weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.targets.mil.arguments import Arguments, Rule


def _blockwise_shift_scale(a: Arguments) -> Tensor:
    """scale · (data − offset); a scale counts for a block of data along every axis."""
    data, scale = a.tensor("data"), a.tensor("scale")
    shifted = data.to(scale.dtype)
    if a.has("offset"):
        shifted = shifted - _spread(a.tensor("offset").to(scale.dtype), data.shape)
    return _spread(scale, data.shape) * shifted


def _affine_dequantize(a: Arguments) -> Tensor:
    """The form before iOS 18: one scale and zero point a channel of `axis`, or one for all."""
    data, scale, zero = a.tensor("quantized_data"), a.tensor("scale"), a.tensor("zero_point")
    shape = [1] * data.dim()
    shape[a.whole("axis", 0)] = -1
    if scale.dim():
        scale = scale.reshape(shape)
    if zero.dim():
        zero = zero.reshape(shape)
    return scale * (data.to(scale.dtype) - zero.to(scale.dtype))


def _lut_to_dense(a: Arguments) -> Tensor:
    """Indices into tables of values, [groups …, entries, 1]; before iOS 18 one table, and packed indices."""
    indices, lut = a.tensor("indices"), a.tensor("lut")
    if a.has("shape"):
        shape = a.wholes("shape", [])
        bits = (len(lut) - 1).bit_length()
        octets = indices.reshape(-1, 1).int()
        single = (octets >> torch.arange(8, dtype=torch.int32) & 1).reshape(-1)
        count = int(torch.tensor(shape).prod())
        weights = 1 << torch.arange(bits, dtype=torch.int32)
        flat = (single[: count * bits].reshape(count, bits) * weights).sum(1)
        return lut[flat.long()].reshape(shape)
    if lut.shape[-1] != 1:
        raise InputFileError("tables of vectors are not evaluated here")
    groups = lut.shape[:-2]
    numbers = torch.arange(int(torch.tensor(groups).prod())).reshape(groups)
    flat = _spread(numbers, indices.shape) * lut.shape[-2] + indices.long()
    return lut.reshape(-1)[flat]


def _spread(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat along every axis until the shape fits."""
    for axis, (have, wanted) in enumerate(zip(values.shape, shape, strict=True)):
        if wanted % have:
            raise InputFileError(f"blocks of {list(values.shape)} do not divide {list(shape)}")
        if 1 < have < wanted:
            values = values.repeat_interleave(wanted // have, axis)
    return values.expand(*shape)


OPERATIONS: Mapping[str, Rule] = {
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_lut_to_dense": _lut_to_dense,
}
