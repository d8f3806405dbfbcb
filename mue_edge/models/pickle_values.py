"""What names in a pickle mean: plain values where a short table says so, else inert placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from mue_edge.errors import InputFileError

_NAME_AT_MOST = 160
_KEY_DEPTH, _KEY_PARTS, _KEY_BITS = 4, 1000, 4096
_ENUMS = "fairseq.dataclass.constants."
_NUMPY_CODE = re.compile(r"b1|[iu][1248]|f[248]|[US]\d{1,4}")


@dataclass(frozen=True, eq=False)
class Global:
    """A class or function that a file names. Nothing was looked up."""

    name: str

    @classmethod
    def of(cls, module: str, name: str) -> Global:
        full = f"{module[:_NAME_AT_MOST]}.{name[:_NAME_AT_MOST]}"[:_NAME_AT_MOST]
        return cls(full if full.isprintable() else ascii(full))


@dataclass(frozen=True, eq=False)
class Placeholder:
    """Stands where a file wants something made by a call of `name`. Nothing was called."""

    name: str

    @classmethod
    def of(cls, value: Any) -> Placeholder:
        return cls(kind(value))


class Attributes(dict[Any, Any]):
    """The attributes of an argparse.Namespace."""


@dataclass(eq=False)
class _NumpyType:
    """A numpy dtype that is still being built: code ("f8") and byte order."""

    code: str
    order: str = "="


def kind(value: Any) -> str:
    """What a value is, for messages: bounded and printable, whatever the value."""
    if isinstance(value, (Global, Placeholder)):
        return value.name
    return "Namespace" if isinstance(value, Attributes) else type(value).__name__


def key(value: Any) -> Any:
    """`value`, if it may be a key.

    Raises InputFileError for what has no hash, and for what Python would hash without a bound: a tuple
    nested deeply ends the process, and a long number takes its time at every use.
    """
    parts, depth = [value], 0
    while parts:
        if depth > _KEY_DEPTH or len(parts) > _KEY_PARTS:
            raise InputFileError("its pickle has a key that is too large")
        for part in parts:
            if isinstance(part, (list, dict, set, bytearray)):
                raise InputFileError(f"its pickle has a {kind(part)} for a key")
            if isinstance(part, int) and part.bit_length() > _KEY_BITS:
                raise InputFileError("its pickle has a key that is too large")
        inner = (item for part in parts if isinstance(part, tuple) for item in part)
        parts, depth = list(islice(inner, _KEY_PARTS + 1)), depth + 1
    return value


def pairs(items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A table of names and values, if all names are sound keys."""
    return {key(name): value for name, value in items}


def call(function: Any, arguments: tuple[Any, ...], meanings: Mapping[str, Callable[..., Any]]) -> Any:
    """What `function(*arguments)` stands for; a Placeholder where that is not known or does not fit."""
    if not isinstance(function, Global):
        return Placeholder.of(function)
    name = function.name
    if name.startswith(_ENUMS) and len(arguments) == 1 and isinstance(arguments[0], (str, int)):
        return arguments[0]  # an enum's member, by its value
    if name in _MAKERS and arguments and isinstance(arguments[0], Global):
        instance_of, *rest = arguments
        if name.endswith("newobj__"):
            return call(instance_of, tuple(rest), meanings)
        return Attributes() if instance_of.name == "argparse.Namespace" else Placeholder.of(instance_of)
    if name in meanings:
        try:
            return meanings[name](*arguments)
        except (TypeError, ValueError, OverflowError):
            return blame(arguments, name)
    return Placeholder(name)


def blame(arguments: Iterable[Any], name: str) -> Placeholder:
    """Instead of `name` made of arguments that do not fit: the first of them that is inert itself."""
    inert = (Placeholder.of(a) for a in arguments if isinstance(a, (Placeholder, Global)))
    return next(inert, Placeholder(name))


def build(target: Any, state: Any) -> None:
    """Give `target` its state. Plain values have none, and placeholders keep none."""
    if isinstance(state, tuple) and len(state) == 2 and isinstance(target, Attributes):
        state = state[0]
    if isinstance(target, Attributes) and isinstance(state, dict):
        target.update(state)
    elif isinstance(target, _NumpyType):
        sound = isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "=")
        target.order = state[1] if sound else ""


def require(sound: bool) -> None:
    """Raise TypeError for arguments that a meaning does not take, which makes a placeholder of its call."""
    if not sound:
        raise TypeError("arguments that do not fit")


def _mapping(items: Any = ()) -> dict[Any, Any]:
    if isinstance(items, dict):
        return dict(items)
    require(isinstance(items, (list, tuple)) and all(isinstance(item, (list, tuple)) for item in items))
    return pairs(items)


def _sequence(items: Any = ()) -> list[Any]:
    require(isinstance(items, (list, tuple, set, frozenset)))
    return list(items)


def _bytes(data: Any = b"", encoding: str = "latin1") -> bytes:
    if isinstance(data, str):
        return _encode(data, encoding)
    require(isinstance(data, (bytes, bytearray)))  # a number would be a size
    return bytes(data)


def _encode(text: Any, encoding: Any = "utf-8", *_: Any) -> bytes:
    require(isinstance(text, str) and encoding in ("latin1", "latin-1", "utf-8", "utf8", "ascii"))
    return bytes(text, encoding)


def _complex(real: Any = 0, imaginary: Any = 0) -> complex:
    require(isinstance(real, (int, float)) and isinstance(imaginary, (int, float)))
    return complex(real, imaginary)


def _enum_member(owner: Any, name: Any) -> Any:
    """getattr(class, name): how Python 3.11 writes an enum's member."""
    require(isinstance(owner, Global) and isinstance(name, str))
    return name if owner.name.startswith(_ENUMS) else Placeholder(Global.of(owner.name, name).name)


def _numpy_type(code: Any, *_: Any) -> _NumpyType:
    require(isinstance(code, str))
    return _NumpyType(code)


def _numpy_scalar(kind: Any, data: Any) -> Any:
    require(isinstance(kind, _NumpyType) and kind.order != "" and bool(_NUMPY_CODE.fullmatch(kind.code)))
    value, dtype = _bytes(data), np.dtype(kind.order + kind.code)
    require(0 < len(value) == dtype.itemsize)
    return np.frombuffer(value, dtype)[0].item()


_MAKERS = {
    *(f"{module}.{name}" for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__")),
    *(f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")),
}
_BUILTINS: dict[str, Callable[..., Any]] = {
    "dict": _mapping,
    "list": _sequence,
    "tuple": lambda items=(): tuple(_sequence(items)),
    "set": lambda items=(): set(map(key, _sequence(items))),
    "frozenset": lambda items=(): frozenset(map(key, _sequence(items))),
    "bytes": _bytes,
    "bytearray": lambda *data: bytearray(_bytes(*data)),
    "complex": _complex,
    "getattr": _enum_member,
}
MEANINGS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "argparse.Namespace": lambda: Attributes(),
    "_codecs.encode": _encode,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    # Under the names of Python 3 and of Python 2, which protocols 0 to 2 use.
    **{f"{module}.{name}": make for name, make in _BUILTINS.items() for module in ("builtins", "__builtin__")},
}
