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
    return x.reshape([size or x.shape[i] for i, size in enumerate(a.wholes("shape", []))])


def _transpose(a: Arguments) -> Tensor:
    return a.tensor().permute(a.wholes("perm", []))


def _expand_dims(a: Arguments) -> Tensor:
    x, axes = a.tensor(), a.wholes("axes", [])
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(a: Arguments) -> Tensor:
    x = a.tensor()
    ones = [i for i, size in enumerate(x.shape) if size == 1]
    return x.squeeze(tuple(a.wholes("axes", ones)))


def _concat(a: Arguments) -> Tensor:
    if a.flag("interleave"):
        raise InputFileError("interleaved concat is not evaluated here")
    return torch.cat(a.tensors(), a.whole("axis", 0))


def _stack(a: Arguments) -> Tensor:
    return torch.stack(a.tensors(), a.whole("axis", 0))


def _slice_by_index(a: Arguments) -> Tensor:
    """Masks: a true begin or end means the dimension's own; a true squeeze drops it, taking `begin`."""
    x = a.tensor()
    rank = x.dim()
    begin, end = a.wholes("begin", [0] * rank), a.wholes("end", [0] * rank)
    strides = a.wholes("stride", [1] * rank)
    from_start, to_end, squeezed = (
        a.wholes(f"{name}_mask", [0] * rank) for name in ("begin", "end", "squeeze")
    )
    if min(strides) < 1:
        raise InputFileError("slices that go backwards are not evaluated here")
    picked: list[slice | int] = []
    for i in range(rank):
        first = None if from_start[i] else begin[i]
        last = None if to_end[i] else end[i]
        picked.append((first or 0) if squeezed[i] else slice(first, last, strides[i]))
    return x[tuple(picked)]


def _gather(a: Arguments) -> Tensor:
    if a.whole("batch_dims", 0):
        raise InputFileError("gather over batches is not evaluated here")
    x, indices, axis = a.tensor(), a.tensor("indices"), a.whole("axis", 0)
    axis %= x.dim()
    flat = indices.reshape(-1).long()
    size = x.shape[axis]
    taken = x.index_select(axis, torch.where(flat < 0, flat + size, flat))
    return taken.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])


def _topk(a: Arguments) -> tuple[Tensor, Tensor]:
    values, ids = torch.topk(
        a.tensor(), a.whole("k", 1), a.whole("axis", -1), not a.flag("ascending"), a.flag("sort", True)
    )
    return values, ids.to(torch.int32)


OPERATIONS: Mapping[str, Rule] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concat": _concat,
    "stack": _stack,
    "slice_by_index": _slice_by_index,
    "gather": _gather,
    "topk": _topk,
}
