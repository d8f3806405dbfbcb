"""OFA-base's size with random weights: what lowering and loading cost."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

from mue_edge.calibrate.report.pages import table
from proving import ROOT
from proving.bundles import BUNDLES, random_model
from proving.rendering import Record

QUIET = True


def measure() -> dict[str, Any]:
    from mue_edge.bundle.folder import open_bundle
    from proving.executorch_loading import loading, peak_mb

    model, out = random_model("ofa-base"), BUNDLES / "ofa-base-embedded"
    started = time.perf_counter()
    words = ["export", str(model), "--target", "embedded-linux", "--out", str(out), "--json"]
    done = subprocess.run([sys.executable, "-m", "mue_edge", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    minutes, peak = (time.perf_counter() - started) / 60, peak_mb(resource.RUSAGE_CHILDREN)
    report, manifest = json.loads(done.stdout), open_bundle(out).manifest
    return {
        "plan": dict(manifest.plan),
        "parameters": manifest.model["parameters"],
        "methods": len(manifest.segments),
        "program_bytes": report["bytes"]["segments"],
        "weight_bytes": sum(segment.weight_bytes for segment in manifest.segments.values()),
        "delegates": {name: note["delegates"] for name, note in report["segments"].items()},
        "host": {name: note["host"] for name, note in report["segments"].items() if note["host"]},
        "evidence": report["evidence"],
        "export_minutes": minutes,
        "export_peak_mb": peak,
        "loading": loading(out),
    }


def render(record: Record) -> str:
    """What OFA-base's size costs to lower and to load."""
    f = record["figures"]
    parts = sorted(set(f["delegates"].values()))
    rows = [
        ["program", f"{f['program_bytes'] / 1e6:.0f} MB, {f['methods']} methods"],
        ["delegates a method", ", ".join(f"{n}: {_render_delegates(f['delegates'], n)}" for n in parts)],
        ["left to ExecuTorch", "; ".join(f"{k}: {', '.join(v)}" for k, v in f["host"].items())],
        ["peak memory of export", f"{f['export_peak_mb'] / 1000:.1f} GB"],
    ]
    for how, words in (("lazily", "what a caption with early exits needs"), ("eagerly", "every method")):
        load = f["loading"][how]
        took = f"{load['methods']:.0f} methods, {load['load_seconds']:.1f} s, {load['loaded_mb']:.0f} MB"
        took += f" (before: {load['mb_before']:.0f}); {load['captioned_mb']:.0f} MB after such a caption"
        rows.append([f"loading {how} ({words})", took])
    return table(["OFA-base with MuE's encoder, random weights", ""], rows)


def _render_delegates(delegates: dict[str, int], n: int) -> str:
    names = [name for name, count in delegates.items() if count == n]
    return ", ".join(names) if len(names) < 5 else f"{len(names)} methods"
