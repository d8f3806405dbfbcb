"""Device classes: a TOML of data and a module (the runtime adapter) each, found by file name."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mue_edge.bundle import Bundle, open_bundle
from mue_edge.captioner import Captioner
from mue_edge.driver import Runtime
from mue_edge.errors import UsageError
from mue_edge.schema import decode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Device:
    """A concrete device of a target, with what is published of it."""

    title: str
    notes: str = ""


@dataclass(frozen=True)
class Target:
    """`NAME.toml`: what the target is, what it takes, and how far it was verified.

    calls: "per-layer" where a call is cheap, else "grouped", with `segments` stages a stack.
    """

    name: str
    title: str
    runtime: str
    versions: str
    extra: str
    precisions: tuple[str, ...]
    calls: str
    rung: str
    verified_on: str
    segments: dict[str, int] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)


def names() -> list[str]:
    """All targets that this installation knows."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.toml"))


def target(name: str) -> Target:
    """A target's data; an unknown name is a UsageError that lists the known ones."""
    path = Path(__file__).parent / f"{name}.toml"
    if name not in names():
        raise UsageError(f"unknown target {name!r}; known targets: {', '.join(names())}")
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return decode(Target, {"name": name} | data, path.name)


def open_runtime(bundle: Bundle, threads: int | None = None) -> Runtime:
    """The runtime of a bundle's target, ready to execute requests."""
    module = importlib.import_module(f"mue_edge.targets.{target(bundle.manifest.target).name}")
    runtime: Runtime = module.open_runtime(bundle, threads)
    return runtime


def open(path: str | Path, *, threads: int | None = None, paranoid: bool = False) -> Captioner:
    """Check a bundle (see `bundle.open_bundle`) and start its target's runtime; also `mue_edge.open`."""
    bundle = open_bundle(path, paranoid=paranoid)
    return Captioner(bundle, open_runtime(bundle, threads))
