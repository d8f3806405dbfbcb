"""Device classes: a TOML of data and a module (the runtime adapter) each, found by file name."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mue_edge.bundle.folder import Bundle, open_bundle
from mue_edge.errors import UsageError, command_line, suggestion
from mue_edge.loop.driver import Runtime
from mue_edge.schema import decode
from mue_edge.sessions.captioner import Captioner
from mue_edge.sessions.entailer import Entailer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Figure:
    """A published or assumed number. tier: "A" vendor, "B" a third party that names the vendor's page or a
    query of the device, "C" third party only; "assumption": nobody published it, measure it."""

    value: float
    source: str
    tier: str


@dataclass(frozen=True)
class Device:
    """A concrete device, with what is published of it. memory: in GB. bandwidth: of memory, in GB/s. rates:
    precision ("fp32", "fp16", "int8") → dense arithmetic in 10¹² operations a second, a multiply-add being
    two. dispatch: microseconds that a call of a graph costs, whatever is in it."""

    title: str
    notes: str = ""
    memory: Figure | None = None
    bandwidth: Figure | None = None
    rates: dict[str, Figure] = field(default_factory=dict)
    dispatch: Figure | None = None


@dataclass(frozen=True)
class Target:
    """`NAME.toml`: what the target is, what it takes, and how far it was verified.

    calls: "per-layer" where a call is cheap, else "grouped", with `segments` stages a stack. format: the
    module of the export room that writes its segments. backends: what a runtime can hand segments to, or
    variants of the format, the default first. outputs: "caller" where the adapter gives segments the
    memory that they write to, else "program". precisions: the default first; refused: others that users
    ask for, and why not. rung: the verification level. site: the application whose folder holds the
    bundle, if one does."""

    name: str
    title: str
    runtime: str
    versions: str
    extra: str
    format: str
    precisions: tuple[str, ...]
    calls: str
    rung: str
    verified_on: str
    backends: tuple[str, ...] = ()
    outputs: str = "caller"
    site: str = ""
    fuses: bool = False
    refused: dict[str, str] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)


# Rows of devices whose target does not exist here yet; a target that comes takes its rows over.
FOLDER = Path(__file__).parent
DEVICES = "devices"


def names() -> list[str]:
    """All targets that this installation knows."""
    return sorted(p.stem for p in FOLDER.glob("*.toml") if p.stem != DEVICES)


def target(name: str) -> Target:
    """A target's data; an unknown name is a UsageError that lists the known ones."""
    if name not in names():
        raise UsageError(f"unknown target {name!r}{suggestion(name, names())}; known targets: {', '.join(names())}")
    return decode(Target, {"name": name} | read_toml(FOLDER / f"{name}.toml"), f"{name}.toml")


def devices() -> dict[str, Device]:
    """Every device that something is known of: the rows of all targets, then those without a target."""
    rows = {name: device for known in names() for name, device in target(known).devices.items()}
    others = read_toml(FOLDER / f"{DEVICES}.toml")
    return rows | {name: decode(Device, row, f"{DEVICES}.toml: {name}") for name, row in others.items()}


def device(name: str) -> Device:
    """A device's row; an unknown name is a UsageError that lists the known ones."""
    known = devices()
    if name not in known:
        raise UsageError(f"unknown device {name!r}{suggestion(name, known)}; known devices: {', '.join(known)}")
    return known[name]


def read_toml(path: Path) -> dict[str, Any]:
    """A file of data of this package."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def module_name(name: str) -> str:
    """The module of a target; an unknown name is a UsageError that lists the known ones."""
    return f"mue_edge.targets.{target(name).name.replace('-', '_')}"


def open_runtime(bundle: Bundle, threads: int | None = None) -> Runtime:
    """The runtime of a bundle's target, ready to execute requests."""
    module = importlib.import_module(module_name(bundle.manifest.target))
    runtime: Runtime = module.open_runtime(bundle, threads)
    return runtime


def open(
    path: str | Path, *, threads: int | None = None, paranoid: bool = False, max_pixels: int | None = None
) -> Captioner:
    """Check a bundle (see `bundle.open_bundle`) and start its target's runtime; also `mue_edge.open`.
    max_pixels: of a picture, width × height; None: 25 million. Raises UsageError for a bundle that judges
    statements."""
    session = open_session(path, threads=threads, paranoid=paranoid, max_pixels=max_pixels)
    if not isinstance(session, Captioner):
        session.close()
        raise UsageError(f'{path} judges statements; use: {command_line("entail", path, "IMAGE")} "STATEMENT"')
    return session


def open_entailer(
    path: str | Path, *, threads: int | None = None, paranoid: bool = False, max_pixels: int | None = None
) -> Entailer:
    """As `open`, of a bundle that judges statements. Raises UsageError for one that captions."""
    session = open_session(path, threads=threads, paranoid=paranoid, max_pixels=max_pixels)
    if not isinstance(session, Entailer):
        session.close()
        raise UsageError(f"{path} captions pictures; use: {command_line('caption', path, 'IMAGE')}")
    return session


def open_session(
    path: str | Path, *, threads: int | None = None, paranoid: bool = False, max_pixels: int | None = None
) -> Captioner | Entailer:
    """As `open`, of a bundle of any task."""
    bundle = open_bundle(path, paranoid=paranoid)
    kind = Entailer if bundle.manifest.answers else Captioner
    return kind(bundle, open_runtime(bundle, threads), max_pixels)
