"""What a bundle's segments are written as: a room for each format, named by the target.

The module `format` of such a room has `write`, which makes the segment files, `caller`, which runs them
without a bundle, and `PACKAGES`, whose versions matter; perhaps `PICTURES`, how many of the user's it scans
ranges on (the cut's `samples`), and `sums` (see `exact.sums`)."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mue_edge.arrays import Array
from mue_edge.bundle.manifest import FusedSegment, Manifest, Port, Segment
from mue_edge.export import lacking
from mue_edge.export.progress import Progress
from mue_edge.models.cut import Cut, Piece
from mue_edge.targets import Target
from mue_edge.targets.executorch.methods import Methods

# Runs the segment of that name: inputs and outputs in the ports' order.
Call = Callable[[str, Sequence[Array]], Sequence[Array]]


@dataclass(frozen=True)
class Written:
    """The manifest's entries. notes: what a report says of single segments. summary: its lines for the whole.
    versions: of the runtime, where the target's range is too wide. evidence: what the manifest says beside
    the versions."""

    segments: Mapping[str, Segment]
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    summary: tuple[str, ...] = ()
    versions: str = ""
    evidence: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, FusedSegment] = field(default_factory=dict)


class Format(Protocol):
    """A module; see above. `caller` is None where this machine cannot run what was written."""

    PACKAGES: tuple[str, ...]

    def write(self, cut: Cut, manifest: Manifest, folder: Path, progress: Progress) -> Written: ...

    def caller(self, manifest: Manifest, folder: Path) -> Call | None: ...


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, neither Python's nor the loggers': converters warn of their own interior, of which their
    user can do nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def of(target: Target) -> Format:
    """The module of a target's format. Raises EnvironmentLacksError without the packages that it needs."""
    try:
        module: Any = importlib.import_module(f"mue_edge.export.{target.format}.format")
    except ImportError as problem:
        raise lacking(problem) from problem
    room: Format = module
    return room


def outputs(piece: Piece, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What a piece's torch module makes of inputs in the ports' order."""
    with torch.no_grad():
        out = piece.module.eval()(*inputs)
    return out if isinstance(out, tuple) else (out,)


def entry(piece: Piece, file: str, weight_bytes: int) -> Segment:
    """The manifest's entry of a piece: its ports as torch has them, the bytes of its weights, its
    multiply-adds."""
    with FlopCounterMode(display=False) as counter:
        results = outputs(piece, list(piece.inputs.values()))
    ports = _ports(piece.inputs), _ports(dict(zip(piece.outputs, results)))
    macs = counter.get_total_flops() // 2
    return Segment(file, *ports, piece.stack, piece.first, piece.last, weight_bytes, macs)


def _ports(tensors: Mapping[str, Tensor]) -> dict[str, Port]:
    return {name: Port(tuple(x.shape), str(x.dtype).removeprefix("torch.")) for name, x in tensors.items()}


def calls(methods: Methods, manifest: Manifest) -> Call:
    """The segments of an open program, given and returning arrays of their own."""

    def call(name: str, inputs: Sequence[Array]) -> Sequence[Array]:
        results = methods.run(name, [methods.tensor(x) for x in inputs])
        ports = manifest.segments[name].outputs.values()
        return [methods.array(x, port).copy() for x, port in zip(results, ports)]

    return call
