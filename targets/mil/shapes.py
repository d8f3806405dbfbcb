"""Operations that move values without computing any, and `topk`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.targets.mil.arguments import Arguments, Rule


def _reshape(a: Arguments) -> Tensor:
    """A size of 0 keeps that dimension."""
    x = a.tensor()
    return x.reshape([size or x.shape[i] for i, size in enumerate(a.integers("shape", []))])


def _expand_dims(a: Arguments) -> Tensor:
    x, axes = a.tensor(), a.integers("axes", [])
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(a: Arguments) -> Tensor:
    x = a.tensor()
    ones = [i for i, size in enumerate(x.shape) if size == 1]
    return x.squeeze(tuple(a.integers("axes", ones)))


def _concat(a: Arguments) -> Tensor:
    if a.flag("interleave"):
        raise InputFileError("interleaved concat is not evaluated here")
    return torch.cat(a.tensors(), a.integer("axis", 0))


def _slice_by_index(a: Arguments) -> Tensor:
    """Masks: a true begin or end means the dimension's own; a true squeeze drops it, taking `begin`."""
    x = a.tensor()
    zeros = [0] * x.dim()
    begin, end, begin_mask, end_mask, squeeze_mask = (
        a.integers(name, zeros) for name in ("begin", "end", "begin_mask", "end_mask", "squeeze_mask")
    )
    strides = a.integers("stride", [1] * x.dim())
    if min(strides) < 1:
        raise InputFileError("slices that go backwards are not evaluated here")
    keys: list[slice | int] = []
    for i, stride in enumerate(strides):
        first = None if begin_mask[i] else begin[i]
        last = None if end_mask[i] else end[i]
        keys.append((first or 0) if squeeze_mask[i] else slice(first, last, stride))
    return x[tuple(keys)]


def _gather(a: Arguments) -> Tensor:
    if a.integer("batch_dims", 0):
        raise InputFileError("gather over batches is not evaluated here")
    x, indices = a.tensor(), a.tensor("indices")
    axis = a.integer("axis", 0) % x.dim()
    flat = indices.reshape(-1).long()
    flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    return x.index_select(axis, flat).reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _topk(a: Arguments) -> tuple[Tensor, Tensor]:
    values, ids = torch.topk(
        a.tensor(), a.integer("k", 1), a.integer("axis", -1), not a.flag("ascending"), a.flag("sort", True)
    )
    return values, ids.to(torch.int32)


OPERATIONS: Mapping[str, Rule] = {
    "reshape": _reshape,
    "transpose": lambda a: a.tensor().permute(a.integers("perm", [])),
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concat": _concat,
    "stack": lambda a: torch.stack(a.tensors(), a.integer("axis", 0)),
    "slice_by_index": _slice_by_index,
    "gather": _gather,
    "topk": _topk,
}
