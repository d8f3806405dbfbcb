"""Tensors of a torch file that were not read yet: where they lie, and how they become tensors."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mue_edge.errors import InputFileError
from mue_edge.models.pickle_values import MEANINGS, Global, require

_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
    "ComplexFloat": "complex64", "ComplexDouble": "complex128", "Untyped": "uint8",
    # Of quantised tensors, which are not rebuilt; their size is needed to find what lies behind them.
    "QInt8": "int8", "QUInt8": "uint8", "QInt32": "int32", "QUInt4x2": "uint8", "QUInt2x4": "uint8",
}  # fmt: skip
_TYPES = frozenset(_STORAGES.values()) | {
    *("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
}
_MOST = 1 << 48
_MOST_DIMENSIONS = 32


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers in a file under a key: of the type `dtype` (torch's name), `count` of them."""

    key: str
    dtype: str
    count: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * _type(self.dtype).itemsize


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A view of a storage; offset and strides count numbers of `dtype`. Nothing was read yet."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def reach(self) -> int:
        """How many numbers of the storage lie from the first to the last of the tensor's."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride))

    @property
    def size(self) -> int:
        """In bytes: what it spans, or what a copy takes if that is more."""
        return max(self.reach, math.prod(self.shape)) * _type(self.dtype).itemsize


def storage(persistent: Any) -> Storage:
    """The storage that a persistent id names. Raises TypeError for what is no such id."""
    require(isinstance(persistent, tuple) and len(persistent) <= 6)
    mark, kind, key, _, count, *view = persistent
    require(mark == "storage" and isinstance(kind, Global) and kind.name.partition(".")[0] == "torch")
    require(isinstance(key, str) and _counts(count) and view in ([], [None]))
    name = kind.name.rpartition(".")[2]
    require(name.endswith("Storage"))
    return Storage(key, _STORAGES[name.removesuffix("Storage")], count)


def realise(stored: StoredTensor, numbers: Callable[[Storage], Tensor], *, order: str) -> Tensor:
    """The tensor, as a view of the mapped file where the machine can read it so.

    `numbers`: the bytes of a storage, [n] uint8. `order`: "little" or "big".
    Raises InputFileError for a tensor that does not lie within its storage.
    """
    dtype = _type(stored.dtype)
    first, last = stored.offset * dtype.itemsize, (stored.offset + stored.reach) * dtype.itemsize
    if last > stored.storage.size:
        raise InputFileError("reaches beyond its storage")
    if not stored.reach:
        return torch.empty(stored.shape, dtype=dtype)
    data = numbers(stored.storage)
    if last > len(data):
        raise InputFileError("is cut short in the file")
    data = data[first:last]
    if order != sys.byteorder:
        part = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
        data = data.reshape(-1, part).flip(1).flatten()
    if data.data_ptr() % dtype.itemsize:
        data = data.clone()
    return data.view(dtype).as_strided(stored.shape, stored.stride)


def _type(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _counts(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < _MOST for value in values)


def _tensor(of: Any, offset: Any, shape: Any, stride: Any, *, dtype: str | None = None) -> StoredTensor:
    require(isinstance(of, Storage) and isinstance(shape, tuple) and isinstance(stride, tuple))
    require(len(shape) == len(stride) <= _MOST_DIMENSIONS and _counts(offset, *shape, *stride))
    return StoredTensor(of, dtype or of.dtype, offset, shape, stride)


def _rebuild_v2(
    of: Any, offset: Any, shape: Any, stride: Any, _grad: Any = None, _hooks: Any = None, marks: Any = None
) -> StoredTensor:
    require(not marks)  # conjugate or negative views are not read
    return _tensor(of, offset, shape, stride)


def _rebuild_v3(
    of: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, marks: Any = None
) -> StoredTensor:
    require(not marks and isinstance(dtype, Global) and dtype.name.removeprefix("torch.") in _TYPES)
    return _tensor(of, offset, shape, stride, dtype=dtype.name.removeprefix("torch."))


def _rebuild_parameter(data: Any, *_: Any) -> StoredTensor:
    require(isinstance(data, StoredTensor))
    tensor: StoredTensor = data
    return tensor


def _rebuild_with_attributes(function: Any, kind: Any, arguments: Any, _state: Any = None) -> StoredTensor:
    """A tensor to which Python attributes were given."""
    require(isinstance(kind, Global) and kind.name in _KINDS and isinstance(arguments, tuple))
    require(isinstance(function, Global) and function.name in _REBUILT)
    return _REBUILT[function.name](*arguments)


_KINDS = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch._tensor.Tensor")
_REBUILT: dict[str, Callable[..., StoredTensor]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_v3,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
}
TENSOR_MEANINGS: dict[str, Callable[..., Any]] = {
    **_REBUILT,
    "torch._tensor._rebuild_from_type_v2": _rebuild_with_attributes,
    "torch.Size": MEANINGS["builtins.tuple"],
}
