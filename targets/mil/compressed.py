"""Constants that are stored smaller than they are used: quantised and palettised weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.targets.mil.arguments import Arguments, Rule
from mue_edge.targets.mil.blob import unpack


def _blockwise_shift_scale(a: Arguments) -> Tensor:
    """scale · (data − offset); a scale counts for a block of data along every axis."""
    data, scale = a.tensor("data"), a.tensor("scale")
    shifted = data.to(scale.dtype)
    if a.has("offset"):
        shifted = shifted - _spread(a.tensor("offset").to(scale.dtype), data.shape)
    return _spread(scale, data.shape) * shifted


def _affine_dequantize(a: Arguments) -> Tensor:
    """The form before iOS 18: one scale and zero point a channel of `axis`, or one for all."""
    data = a.tensor("quantized_data")
    shape = [1] * data.dim()
    shape[a.integer("axis", 0)] = -1
    scale, zero = (x.reshape(shape) if x.dim() else x for x in (a.tensor("scale"), a.tensor("zero_point")))
    return scale * (data.to(scale.dtype) - zero.to(scale.dtype))


def _lut_to_dense(a: Arguments) -> Tensor:
    """Indices into tables of values, [groups …, entries, 1]; before iOS 18 one table, and packed indices."""
    indices, lut = a.tensor("indices"), a.tensor("lut")
    if a.has("shape"):
        shape = a.integers("shape", [])
        octets = indices.reshape(-1).to(torch.uint8).numpy()
        flat = unpack(octets, f"uint{(len(lut) - 1).bit_length()}", math.prod(shape))
        return lut[torch.from_numpy(flat).long()].reshape(shape)
    if lut.shape[-1] != 1:
        raise InputFileError("tables of vectors are not evaluated here")
    groups = lut.shape[:-2]
    numbers = torch.arange(math.prod(groups)).reshape(groups)
    return lut.reshape(-1)[_spread(numbers, indices.shape) * lut.shape[-2] + indices.long()]


def _spread(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat along every axis until the shape fits."""
    for axis, (size, wanted) in enumerate(zip(values.shape, shape, strict=True)):
        if wanted % size:
            raise InputFileError(f"blocks of {list(values.shape)} do not divide {list(shape)}")
        if 1 < size < wanted:
            values = values.repeat_interleave(wanted // size, axis)
    return values.expand(*shape)


OPERATIONS: Mapping[str, Rule] = {
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "constexpr_affine_dequantize": _affine_dequantize,
    "constexpr_lut_to_dense": _lut_to_dense,
}
