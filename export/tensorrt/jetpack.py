"""JetPack profiles and operator tables: what each TensorRT takes, read from data files beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mue_edge.errors import UsageError
from mue_edge.schema import decode
from mue_edge.targets import read_toml


@dataclass(frozen=True)
class JetPackProfile:
    """A line of JetPack; see jetpack.toml."""

    name: str
    title: str
    tensorrt: str
    opset: int
    max_opset: int
    ir: int
    operators: str
    typed: bool
    runs: bool
    source: str


@dataclass(frozen=True)
class Operators:
    """What a TensorRT version's parser takes: names of operators, and of ONNX tensor types."""

    source: str
    operators: tuple[str, ...]
    types: tuple[str, ...] = ()
    extends: str = ""


def profile(name: str) -> JetPackProfile:
    """A profile; an unknown name is a UsageError that lists the known ones."""
    known = _read("jetpack")
    if name not in known:
        raise UsageError(f"unknown JetPack profile {name!r}; known profiles: {', '.join(known)}")
    return decode(JetPackProfile, {"name": name} | known[name], f"jetpack.toml: {name}")


def names() -> tuple[str, ...]:
    """All profiles, the default first."""
    return tuple(_read("jetpack"))


def operators(version: str) -> Operators:
    """The table of a TensorRT version, with those that it adds to."""
    known = _read("tensorrt_operators")
    table = decode(Operators, known[version], f"tensorrt_operators.toml: {version}")
    if not table.extends:
        return table
    base = operators(table.extends)
    return Operators(table.source, base.operators + table.operators, table.types or base.types)


def _read(name: str) -> dict[str, Any]:
    return read_toml(Path(__file__).with_name(f"{name}.toml"))
