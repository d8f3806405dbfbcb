"""Runs a driver of the app in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SPEAKER = '#!/bin/sh\ncat > "$SPOKEN"\n'


def driven(backend: str, work: Path, *arguments: Path, voice: bool = True, driver: str = "drive") -> dict[str, Any]:
    """What the driver saw. What was read aloud last is in `work / "spoken"`."""
    programs = work / "programs"
    programs.mkdir(exist_ok=True)
    if voice:
        (programs / "espeak-ng").write_text(SPEAKER)
        (programs / "espeak-ng").chmod(0o755)
    environment = os.environ | {
        "TOGA_BACKEND": backend,
        "QT_QPA_PLATFORM": "offscreen",
        "SPOKEN": str(work / "spoken"),
        "PATH": f"{programs}:/usr/bin:/bin" if voice else str(programs),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", f"tests.apps.phone.{driver}", *map(str, arguments)], cwd=work,
        env=environment, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
