"""The proxy build: every segment through TensorRT-RTX's ahead-of-time builder, in a process of its own.

TensorRT itself needs a GPU and is not on the package index; its sibling for desktop GPUs builds without one.
It is another product, with other kernels and a newer parser, so that this is evidence of a kind and is named
literally.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mue_edge.errors import VerificationError, missing_extra

PACKAGE = "tensorrt-rtx"
# rtx_build.py needs the extra to be imported: its mark is repeated here, and a test compares them.
MARK = "rtx:"
SECONDS_A_SEGMENT = 120


@dataclass(frozen=True)
class Built:
    """A segment as the proxy took it: port → (shape, type), and the plan's bytes."""

    inputs: Mapping[str, tuple[tuple[int, ...], str]]
    outputs: Mapping[str, tuple[tuple[int, ...], str]]
    bytes: int


def is_here() -> bool:
    """Whether the extra is installed."""
    return _version() is not None


def label() -> str:
    """What a manifest says of the proxy. Raises EnvironmentLacksError without the extra."""
    version = _version()
    if version is None:
        raise missing_extra(PACKAGE, "rtx")
    return f"TensorRT-RTX {'.'.join(version.split('.')[:3])}, sm_86; not Jetson TensorRT"


def build(files: Mapping[str, Path]) -> dict[str, Built]:
    """Build every file. Raises VerificationError that names those that cannot be built, and why."""
    found = attempt(files)
    errors = [f"{name}: {' '.join(result['error'])}" for name, result in found.items() if "error" in result]
    missing = sorted(set(files) - set(found))
    errors += [f"{name}: the builder ended before it was done" for name in missing]
    if errors:
        raise VerificationError(f"the proxy build ({label()}) refuses " + "; ".join(errors))
    return {name: _built(result) for name, result in found.items()}


def attempt(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """What the builder said of each file: see rtx_build.py. A file at which it crashed is absent."""
    label()
    script = Path(__file__).with_name("rtx_build.py")
    request = json.dumps({name: str(path) for name, path in files.items()})
    ran = subprocess.run(
        [sys.executable, str(script)], input=request, capture_output=True, text=True, check=False,
        timeout=SECONDS_A_SEGMENT * max(1, len(files)),
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for line in ran.stdout.splitlines():
        if line.startswith(MARK):
            found |= json.loads(line.removeprefix(MARK))
    return found


def _built(result: Mapping[str, Any]) -> Built:
    def ports(entries: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
        return {name: (tuple(shape), kind) for name, (shape, kind) in entries.items()}

    return Built(ports(result["inputs"]), ports(result["outputs"]), result["bytes"])


def _version() -> str | None:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
