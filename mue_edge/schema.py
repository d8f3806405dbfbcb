"""Frozen dataclasses to and from JSON, strictly: unknown keys and wrong types are errors.

Understands int, float, str, bool, None, unions with None, tuples of one kind (`tuple[X, ...]`, or
`tuple[X, X]` for just two), `dict[str, X]` (also as Mapping) and nested dataclasses. Standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from mue_edge.errors import InputFileError
from mue_edge.reading import finite

T = TypeVar("T")
_hints = functools.cache(typing.get_type_hints)  # of a class: strings are evaluated once


def decode(kind: type[T], data: object, where: str) -> T:
    """`data` as an instance of the dataclass `kind`; `where` names the place in error messages."""
    value: T = _decode(kind, data, where)
    return value


def encode(value: Any) -> Any:
    """A dataclass instance as JSON data; fields that equal their default are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {f.name: encode(v) for f in fields if (v := getattr(value, f.name)) != _default(f)}
    if isinstance(value, Mapping):
        return {k: encode(v) for k, v in value.items()}
    return [encode(v) for v in value] if isinstance(value, (tuple, list)) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def _decode(kind: Any, data: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        return _decode(next(a for a in arguments if a is not type(None)), data, where)
    if origin is tuple:
        _check(isinstance(data, list), where, "a list", data)
        length = None if arguments[-1] is Ellipsis else len(arguments)
        _check(length in (None, len(data)), where, f"a list of {length}", data)
        if arguments[0] in (str, int) and all(type(v) is arguments[0] for v in data):
            return tuple(data)  # fast for vocabularies
        return tuple(_decode(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(data))
    if origin in (dict, Mapping):
        _check(isinstance(data, dict), where, "an object", data)
        return {k: _decode(arguments[1], v, f"{where}.{k}") for k, v in data.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, where)
    if kind is float:
        _check(type(data) in (int, float) and finite(data), where, "a finite number", data)
        return float(data)
    _check(type(data) is kind, where, {int: "a whole number", str: "a string", bool: "true or false"}[kind], data)
    return data


def _decode_dataclass(kind: Any, data: Any, where: str) -> Any:
    _check(isinstance(data, dict), where, "an object", data)
    hints = _hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise InputFileError(f"{where} has unknown keys: {', '.join(unknown)}; known: {', '.join(fields)}")
    missing = sorted(n for n, f in fields.items() if n not in data and _default(f) is dataclasses.MISSING)
    if missing:
        raise InputFileError(f"{where} lacks: {', '.join(missing)}")
    values = {name: _decode(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    try:
        return kind(**values)
    except InputFileError as problem:  # of values that do not fit together
        raise InputFileError(f"{where}: {problem}") from problem


def _check(fine: bool, where: str, expected: str, data: object) -> None:
    if not fine:
        raise InputFileError(f"{where} is not {expected}: {str(data)[:60]!r}")
