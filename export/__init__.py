"""From torch to artefacts: the cut, the converters, the bundle's making and its verification."""

from __future__ import annotations

from typing import Any

from mue_edge.errors import EnvironmentLacksError, missing_extra


def room() -> tuple[Any, Any]:
    """The modules build and plan of this room. Raises EnvironmentLacksError without its extra."""
    try:
        from mue_edge.export import build, plan
    except ImportError as problem:
        raise lacking(problem) from problem
    return build, plan


def lacking(problem: ImportError) -> EnvironmentLacksError:
    """The error for an import of this room that failed; a fault of the package's own is raised as it is."""
    package = (problem.name or "mue_edge").partition(".")[0]
    if package == "mue_edge":
        raise problem
    return missing_extra(package, "export")
