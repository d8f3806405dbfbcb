"""The operations on small arrays that a caption needs, on Python's own `array`, named as NumPy names them.

For iPhones, where there is no NumPy. Hidden states and weights stay with the runtime there; biases of a step,
cache rows, token ids and scores pass through here. Anything else of NumPy's is an error that says so.
"""

from __future__ import annotations

import math
import struct
from array import array as Storage
from collections.abc import Callable, Sequence
from itertools import chain
from operator import add, itemgetter, sub
from typing import Any

from mue_edge.errors import EnvironmentLacksError

# NumPy's names → `array`'s codes; halves are kept as their 16 bits.
_CODES = {"float32": "f", "float64": "d", "float16": "H", "int32": "i", "int64": "q", "uint8": "B"}
_LARGEST_HALF = 65520  # from here on a number rounds to an infinite half
Shape = tuple[int, ...]


class dtype(str):
    """A type by its name. Raises KeyError for one that does not occur."""

    @property
    def itemsize(self) -> int:
        return Storage(_CODES[self]).itemsize


float16, float32, float64 = dtype("float16"), dtype("float32"), dtype("float64")
int32, int64, uint8 = dtype("int32"), dtype("int64"), dtype("uint8")


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise EnvironmentLacksError(f"this needs numpy ({name}), which is not installed: pip install numpy")


class Array:
    """Numbers of one type, or a view of another's. Indices are numbers, slices without a step, None, `...`
    and at most one list; what is assigned is broadcast and converted."""

    def __init__(self, data: Storage[Any], kind: str, shape: Shape, strides: Shape, first: int = 0) -> None:
        self._data, self.dtype, self.shape = data, dtype(kind), shape
        self._strides, self._first = strides, first

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Array:
        keys = self._keys(key)
        listed = _listed(keys)
        if listed is not None:
            at, axis = listed
            parts = [self[_with(keys, at, i)] for i in keys[at]]
            shape = list(self[_with(keys, at, slice(None))].shape)
            shape[axis] = len(parts)
            result = zeros(tuple(shape), self.dtype)
            for i, part in enumerate(parts):
                result[(slice(None),) * axis + (i,)] = part
            return result
        first, axes, axis = self._first, list[tuple[int, int]](), 0
        for one in keys:
            if one is None:
                axes.append((1, 0))
                continue
            size, stride = self.shape[axis], self._strides[axis]
            axis += 1
            if isinstance(one, slice):
                start, stop, _ = one.indices(size)
                axes.append((max(0, stop - start), stride))
                first += start * stride
            elif -size <= one < size:
                first += one % size * stride
            else:
                raise IndexError(f"{one} of {size}")
        sizes, strides = tuple(size for size, _ in axes), tuple(stride for _, stride in axes)
        return Array(self._data, self.dtype, sizes, strides, first)

    def __setitem__(self, key: Any, value: Any) -> None:
        keys = self._keys(key)
        listed = _listed(keys)
        if listed is not None:
            at, axis = listed
            shape = list(self[_with(keys, at, slice(None))].shape)
            shape[axis] = len(keys[at])
            parts = asarray(value, self.dtype)._as(tuple(shape))
            for i, place in enumerate(keys[at]):
                self[_with(keys, at, place)] = parts[(slice(None),) * axis + (i,)]
            return
        to = self[keys]
        flat, row = asarray(value, self.dtype)._as(to.shape)._flat(), to.shape[-1] if to.shape else 1
        stride = to._strides[-1] if to.shape else 1
        for i, start in enumerate(to._rows()):
            if row:
                end = start + (row - 1) * stride + 1
                self._data[start : end : stride or 1] = flat[i * row : (i + 1) * row]

    def __add__(self, other: Array) -> Array:
        return self._with(other, add)

    def __sub__(self, other: Array) -> Array:
        return self._with(other, sub)

    def astype(self, kind: str, copy: bool = True) -> Array:
        """With the numbers in another type."""
        if kind == self.dtype:
            return _whole(self._flat(), kind, self.shape) if copy else self
        return _whole(_stored(self._numbers(), kind), kind, self.shape)

    def reshape(self, *shape: Any) -> Array:
        """The same numbers, copied, with as many of them in another shape."""
        sizes: Shape = shape if all(isinstance(size, int) for size in shape) else tuple(shape[0])
        return _whole(self._flat(), self.dtype, sizes)

    def transpose(self, *axes: int) -> Array:
        """A view with the axes in that order."""
        shape, strides = (tuple(of[axis] for axis in axes) for of in (self.shape, self._strides))
        return Array(self._data, self.dtype, shape, strides, self._first)

    def tolist(self) -> Any:
        """Nested lists of numbers."""
        values: Any = list(self._numbers())
        for axis in range(len(self.shape) - 1, 0, -1):
            size, count = self.shape[axis], math.prod(self.shape[:axis])
            values = [values[i * size : (i + 1) * size] for i in range(count)]
        return values if self.shape else values[0]

    def tobytes(self) -> bytes:
        """The numbers row by row."""
        return self._flat().tobytes()

    def _keys(self, key: Any) -> tuple[Any, ...]:
        """An index for every axis."""
        keys = key if isinstance(key, tuple) else (key,)
        ellipsis = keys.index(...) if any(one is ... for one in keys) else len(keys)
        missing = len(self.shape) - sum(one is not None and one is not ... for one in keys)
        if missing < 0:
            raise IndexError(f"{len(keys)} indices for {len(self.shape)} axes")
        return (*keys[:ellipsis], *[slice(None)] * missing, *keys[ellipsis + 1 :])

    def _rows(self) -> list[int]:
        """Where each row of the last axis begins."""
        starts = [self._first]
        for size, stride in zip(self.shape[:-1], self._strides):
            starts = [start + i * stride for start in starts for i in range(size)]
        return starts

    def _flat(self) -> Storage[Any]:
        """A copy of what is stored, row by row."""
        if self._strides == _steps(self.shape):
            return self._data[self._first : self._first + math.prod(self.shape)]
        row, stride, flat = self.shape[-1], self._strides[-1], Storage(_CODES[self.dtype])
        for start in self._rows() if row else ():
            piece = self._data[start : start + (row - 1) * stride + 1 : stride or 1]
            flat += piece if stride else piece * row
        return flat

    def _numbers(self) -> Sequence[Any]:
        flat = self._flat()
        return struct.unpack(f"{len(flat)}e", flat.tobytes()) if self.dtype == float16 else flat

    def _as(self, shape: Shape) -> Array:
        """A view that repeats what is there to a larger shape. Raises ValueError where it does not fit."""
        missing = len(shape) - len(self.shape)
        sizes, strides = (1,) * missing + self.shape, (0,) * missing + self._strides
        if missing < 0 or any(have not in (1, want) for have, want in zip(sizes, shape)):
            raise ValueError(f"shape {self.shape} does not fit {shape}")
        steps = tuple(stride if have == want else 0 for have, want, stride in zip(sizes, shape, strides))
        return Array(self._data, self.dtype, shape, steps, self._first)

    def _with(self, other: Array, operation: Callable[[Any, Any], Any]) -> Array:
        count = max(len(self.shape), len(other.shape))
        padded = ((1,) * (count - len(x.shape)) + x.shape for x in (self, other))
        shape = tuple(b if a == 1 else a for a, b in zip(*padded))
        pairs = map(operation, self._as(shape)._numbers(), other._as(shape)._numbers())
        return _whole(_stored(list(pairs), self.dtype), self.dtype, shape)


def zeros(shape: Shape, kind: str = float64) -> Array:
    """A new array of zeros."""
    return full(shape, 0, kind)


def full(shape: Shape, value: float, kind: str) -> Array:
    """A new array of one number."""
    return _whole(_stored([value], kind) * math.prod(shape), kind, tuple(shape))


def array(values: Any, kind: str | None = None) -> Array:
    """A new array, of another or of nested sequences of numbers."""
    if isinstance(values, Array):
        return values.astype(kind or values.dtype)
    shape: list[int] = []
    flat: Any = [values]
    if not isinstance(values, (int, float)):
        flat = values
        shape.append(len(flat))
        while len(flat) and not isinstance(flat[0], (int, float)):
            shape.append(len(flat[0]))
            flat = list(chain.from_iterable(flat))
    kind = kind or (int64 if all(isinstance(x, int) for x in flat) else float64)
    return _whole(_stored(flat, kind), kind, tuple(shape))


def asarray(values: Any, kind: str | None = None) -> Array:
    """As `array`, without a copy of what is an array of that type already."""
    if isinstance(values, Array) and kind in (None, values.dtype):
        return values
    return array(values, kind)


def frombuffer(data: bytes | bytearray | memoryview, kind: str = float64) -> Array:
    """A copy of numbers that lie in memory."""
    numbers = Storage(_CODES[kind])
    numbers.frombytes(data)
    return _whole(numbers, kind, (len(numbers),))


def take(values: Array, index: Array, axis: int) -> Array:
    """Along the last axis, those that an index of any shape names."""
    assert axis == len(values.shape) - 1
    flat, row = values._flat(), values.shape[-1]
    places = index._flat()
    picked = itemgetter(*places) if len(places) > 1 else lambda numbers: [numbers[places[0]]]
    taken = Storage(flat.typecode)
    for start in range(0, len(flat), row):
        taken.extend(picked(flat[start : start + row]))
    return _whole(taken, values.dtype, values.shape[:-1] + index.shape)


def _whole(data: Storage[Any], kind: str, shape: Shape) -> Array:
    """An array over all of `data`."""
    if len(data) != math.prod(shape):
        raise ValueError(f"{len(data)} numbers do not have the shape {shape}")
    return Array(data, kind, shape, _steps(shape))


def _steps(shape: Shape) -> Shape:
    """Strides of numbers that lie row by row."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _stored(numbers: Sequence[Any], kind: str) -> Storage[Any]:
    """Numbers as they are kept."""
    if kind == float16:
        whole = [math.copysign(math.inf, x) if abs(x) >= _LARGEST_HALF else x for x in numbers]
        return Storage("H", struct.pack(f"{len(whole)}e", *whole))
    whole_number = not kind.startswith("float")
    return Storage(_CODES[kind], map(int, numbers) if whole_number else numbers)


def _listed(keys: tuple[Any, ...]) -> tuple[int, int] | None:
    """Which index is a list, and which axis of the result comes of it."""
    for at, one in enumerate(keys):
        if isinstance(one, (list, range)):
            return at, sum(not isinstance(before, int) for before in keys[:at])
    return None


def _with(keys: tuple[Any, ...], at: int, one: Any) -> tuple[Any, ...]:
    return (*keys[:at], one, *keys[at + 1 :])
