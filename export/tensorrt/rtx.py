"""The proxy build: every segment through TensorRT-RTX's ahead-of-time builder, in a process of its own.

TensorRT itself needs a GPU and is not on the package index; its sibling for desktop GPUs builds without one,
with other kernels and a newer parser."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from mue_edge.errors import VerificationError, missing_extra

PACKAGE = "tensorrt-rtx"
# rtx_build.py needs the extra to be imported: its mark is repeated here, and a test compares them.
MARK = "rtx:"
SECONDS_A_SEGMENT = 120


def is_here() -> bool:
    return _version() is not None


def label() -> str:
    """What a manifest says of the proxy. Raises EnvironmentLacksError without the extra."""
    version = _version()
    if version is None:
        raise missing_extra(PACKAGE, "rtx")
    return f"TensorRT-RTX {'.'.join(version.split('.')[:3])}, sm_86; not Jetson TensorRT"


def build(files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Build every file; what came of each: see rtx_build.py. Raises VerificationError that names those that
    cannot be built, and why; a file at which the builder crashed has no result."""
    proxy = label()
    script = Path(__file__).with_name("rtx_build.py")
    ran = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps({name: str(path) for name, path in files.items()}),
        capture_output=True,
        text=True,
        timeout=SECONDS_A_SEGMENT * max(1, len(files)),
    )
    results: dict[str, dict[str, Any]] = {}
    for line in ran.stdout.splitlines():
        if line.startswith(MARK):
            results |= json.loads(line.removeprefix(MARK))
    errors = [f"{name}: {' '.join(result['error'])}" for name, result in results.items() if "error" in result]
    missing = sorted(set(files) - set(results))
    errors += [f"{name}: the builder ended before it was done" for name in missing]
    if errors:
        raise VerificationError(f"the proxy build ({proxy}) refuses " + "; ".join(errors))
    return results


def _version() -> str | None:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
