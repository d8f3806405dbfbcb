"""What a bundle's segments are written as: a room for each format, named by the target.

The module `format` of such a room has three parts. `write` makes the segment files, `caller` runs them
without a bundle around them, so that they can be compared with torch, and `PACKAGES` are those whose versions
matter. One that wants pictures of the user's, to scan ranges on, says how many: `PICTURES`; they come as the
cut's `samples`. One that knows how large int8's errors are by exact sums has `sums`; see `exact.make`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from mue_edge.bundle.manifest import Manifest, Segment
from mue_edge.export import lacking
from mue_edge.models.cut import Cut
from mue_edge.targets import Target

Progress = Callable[[str, int, int], None]
# Runs the segment of that name: inputs and outputs in the ports' order.
Call = Callable[[str, Sequence[NDArray[Any]]], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Written:
    """The manifest's entries, and what a report should say of single segments (such as what a backend
    left on the CPU).

    summary: lines for the report. versions: of the runtime, where the target's range is too wide. evidence:
    name → what the manifest shall say beside the versions.
    """

    segments: Mapping[str, Segment]
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    summary: tuple[str, ...] = ()
    versions: str = ""
    evidence: Mapping[str, str] = field(default_factory=dict)


class Format(Protocol):
    """A module; see above. `caller` is None where this machine cannot run what was written."""

    PACKAGES: tuple[str, ...]

    def write(self, cut: Cut, manifest: Manifest, folder: Path, progress: Progress) -> Written: ...

    def caller(self, manifest: Manifest, folder: Path) -> Call | None: ...


def of(target: Target) -> Format:
    """The module of a target's format. Raises EnvironmentLacksError without the packages that it needs."""
    try:
        found: Any = importlib.import_module(f"mue_edge.export.{target.format}.format")
    except ImportError as problem:
        raise lacking(problem) from problem
    made: Format = found
    return made
