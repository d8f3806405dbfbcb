"""The bundled model lowered for phones' GPUs: what the backend takes. No GPU runs it here."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from proving import ROOT
from proving.bundles import BUNDLES
from proving.rendering import Record


def measure() -> dict[str, Any]:
    from mue_edge.apps.stickers import model_folder

    words = ["--target", "android", "--backend", "vulkan", "--out", str(BUNDLES / "stickers-vulkan"), "--json"]
    command = [sys.executable, "-m", "mue_edge", "export", str(model_folder()), *words]
    report = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "program_bytes": report["bytes"]["segments"],
        "evidence": report["evidence"],
        "segments": report["segments"],
    }


def render(record: Record) -> str:
    """What the GPU's backend takes of the bundled model."""
    f = record["figures"]
    whole = sum(note["delegates"] == 1 and not note["host"] for note in f["segments"].values())
    left = "; ".join(f"{k}: {', '.join(note['host'])}" for k, note in f["segments"].items() if note["host"])
    words = f"`stickers`: Vulkan takes {whole} of {len(f['segments'])} segments whole"
    words += f" (left to the runtime, {left})" if left else ""
    return words + f"; the program has {f['program_bytes'] / 1e6:.1f} MB.\n"
