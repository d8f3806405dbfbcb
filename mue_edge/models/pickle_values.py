"""What names in a pickle mean: plain values where a short table says so, else inert placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
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


class _NumpyType:
    """A numpy dtype that is still being built: code ("f8") and byte order."""

    def __init__(self, code: str, order: str = "=") -> None:
        self.code, self.order = code, order


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


def pairs(items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """The items, each with a sound key."""
    return ((key(name), value) for name, value in items)


def call(function: Any, arguments: tuple[Any, ...], meanings: Mapping[str, Callable[..., Any]]) -> Any:
    """What `function(*arguments)` stands for; a Placeholder where that is not known or does not fit."""
    if not isinstance(function, Global):
        return Placeholder.of(function)
    name = function.name
    if name.startswith(_ENUMS) and len(arguments) == 1 and isinstance(arguments[0], (str, int)):
        return arguments[0]  # an enum's member, by its value
    if name in _MAKERS and arguments and isinstance(arguments[0], Global):
        # Makes an instance of its first argument.
        made = arguments[0]
        if made.name == "argparse.Namespace" or name.endswith("newobj__"):
            return call(made, arguments[1:] if name.endswith("newobj__") else (), meanings)
        return Placeholder.of(made)
    if name in meanings:
        try:
            return meanings[name](*arguments)
        except (TypeError, ValueError, OverflowError):
            return blame(arguments, name)
    return Placeholder(name)


def blame(arguments: Iterable[Any], name: str) -> Placeholder:
    """Instead of `name` made of arguments that do not fit: the first of them that is inert itself."""
    return next(
        (Placeholder.of(a) for a in arguments if isinstance(a, (Placeholder, Global))), Placeholder(name)
    )


def build(target: Any, state: Any) -> None:
    """Give `target` its state. Plain values have none, and placeholders keep none."""
    if isinstance(state, tuple) and len(state) == 2 and isinstance(target, Attributes):
        state = state[0]
    if isinstance(target, Attributes) and isinstance(state, dict):
        target.update(state)
    elif isinstance(target, _NumpyType):
        known = isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "=")
        target.order = state[1] if known else ""


def _mapping(items: Any = ()) -> dict[Any, Any]:
    if isinstance(items, dict):
        return dict(items)
    if not isinstance(items, (list, tuple)) or not all(isinstance(i, (list, tuple)) for i in items):
        raise TypeError("no pairs")
    return dict(pairs((name, value) for name, value in items))


def _sequence(items: Any = ()) -> list[Any]:
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise TypeError("no sequence")
    return list(items)


def _bytes(data: Any = b"", encoding: str = "latin1") -> bytes:
    if isinstance(data, str):
        return _encode(data, encoding)
    if not isinstance(data, (bytes, bytearray)):
        raise TypeError("no bytes")  # a number would be a size
    return bytes(data)


def _encode(text: Any, encoding: Any = "utf-8", *_: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise TypeError("no text")
    return text.encode(encoding)


def _complex(real: Any = 0, imaginary: Any = 0) -> complex:
    if not all(isinstance(part, (int, float)) for part in (real, imaginary)):
        raise TypeError("no numbers")
    return complex(real, imaginary)


def _enum_member(owner: Any, name: Any) -> Any:
    """getattr(class, name): how Python 3.11 writes an enum's member."""
    if not isinstance(owner, Global) or not isinstance(name, str):
        raise TypeError("no class")
    return name if owner.name.startswith(_ENUMS) else Placeholder(Global.of(owner.name, name).name)


def _numpy_type(code: Any, *_: Any) -> _NumpyType:
    if not isinstance(code, str):
        raise TypeError("no dtype")
    return _NumpyType(code)


def _numpy_scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, _NumpyType) or not kind.order or not _NUMPY_CODE.fullmatch(kind.code):
        raise TypeError("no number")
    value = _bytes(data)
    dtype = np.dtype(kind.order + kind.code)
    if not 0 < len(value) == dtype.itemsize:
        raise ValueError("another size")
    return np.frombuffer(value, dtype)[0].item()


def _builtins(table: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Under the names of Python 3 and of Python 2, which protocols 0 to 2 use."""
    return {f"{module}.{name}": made for name, made in table.items() for module in _BUILTINS}


_COPYREG = ("_reconstructor", "__newobj__")
_BUILTINS = ("builtins", "__builtin__")
_MAKERS = {
    f"{module}.{name}" for module in ("copyreg", "copy_reg") for name in ("_reconstructor", "__newobj__")
}
_MAKERS |= {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
MEANINGS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "argparse.Namespace": lambda: Attributes(),
    "_codecs.encode": _encode,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    **_builtins(
        {
            "dict": _mapping,
            "list": _sequence,
            "tuple": lambda items=(): tuple(_sequence(items)),
            "set": lambda items=(): set(map(key, _sequence(items))),
            "frozenset": lambda items=(): frozenset(map(key, _sequence(items))),
            "bytes": _bytes,
            "bytearray": lambda *given: bytearray(_bytes(*given)),
            "complex": _complex,
            "getattr": _enum_member,
        }
    ),
}
