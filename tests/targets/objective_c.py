"""Objects as rubicon-objc 0.5.7 hands them to Python (its `api.py` and `collections.py`, read).

A method that returns a C number gives an int or a float. One that returns an object gives an `ObjCInstance`,
which has no number, length or text of its own; NSNumber stays one (only `py_from_ns` converts it), so `int`
of it is a TypeError. An NSArray can be indexed and iterated, and its items are such objects. An NSString has
`str`. Properties, such as NSNumber's `integerValue`, are read as attributes. An `NSError **` is given as
`byref` of an `objc_id`, whose object `ObjCInstance` makes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any


class NSNumber:
    """No int: no `__int__`, `__index__`, arithmetic, or equality with numbers."""

    def __init__(self, value: int) -> None:
        self.integerValue = self.longLongValue = value


class NSArray:
    """`ObjCListInstance`: a sequence of objects, but no list."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


class NSString:
    """`ObjCStrInstance`: text by `str`, and no str itself."""

    def __init__(self, text: object) -> None:
        self._text = str(text)

    def __str__(self) -> str:
        return self._text


class Errors:
    """`objc_id` and `ObjCInstance`, of errors."""

    pointer = ctypes.c_void_p  # rubicon's own type derives from it

    def __init__(self) -> None:
        self._made: list[Any] = []

    def at(self, address: Any, text: str) -> None:
        """Leave an NSError there, as a method that fails does."""
        self._made.append(SimpleNamespace(localizedDescription=NSString(text)))
        address._obj.value = len(self._made)

    def instance(self, pointer: Any) -> Any:
        return self._made[pointer.value - 1]
