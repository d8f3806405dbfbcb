"""Rung `device`: what the hardware itself answered, as a signed-off JSON file beside the bundle.

The golden answers are compared first. Which exit tests lay on a knife's edge says how much of a differing
exit is rounding: |score − Θ| below five times the 99th percentile of the replayed scores' error.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mue_edge import machine
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.bundle.policy_files import from_json
from mue_edge.files import atomic_write, sha256
from mue_edge.loop.driver import Runtime, set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.replay import run
from mue_edge.targets import golden
from mue_edge.targets.verify import Verified


def place_of(bundle: Path) -> Path:
    """Where a bundle's sign-off is written: beside its folder."""
    folder = bundle.absolute()
    return folder.with_name(f"{folder.name}.device.json")


# Of the target: figures that only the device has.
Measure = Callable[[Runtime, list[object], list[Policy]], dict[str, Any]]


@dataclass(frozen=True)
class KnifeEdge:
    """Exit tests of the golden pictures under the bundle's policies, and how many were that close."""

    tests: int
    close: int
    within: float


def knife_edge(bundle: Bundle, runtime: Runtime, within: float) -> KnifeEdge:
    """Count the tests with a threshold of every golden log's policy, run freely."""
    layout, settings = bundle.manifest.layout, bundle.manifest.search
    shown, logs = golden.read(bundle)
    distances = []
    for entry in logs:
        set_inputs(runtime, golden.pixels(shown[entry.picture], bundle.manifest.preprocess), entry.source)
        outcome = run(layout, settings, from_json(entry.policy), runtime, source=entry.source)
        distances += [
            abs(min(d.scores) - d.threshold)
            for d in outcome.decisions
            if d.scores and abs(d.threshold) < float("inf")
        ]
    return KnifeEdge(len(distances), sum(d <= within for d in distances), within)


def sign_off(
    bundle: Bundle, runtime: Runtime, found: Verified, measure: Measure, out: Path
) -> dict[str, Any]:
    """Measure, write `out` and return its content."""
    manifest = bundle.manifest
    shown, _ = golden.read(bundle)
    pixels: list[object] = [golden.pixels(picture, manifest.preprocess) for picture in shown]
    edge = knife_edge(bundle, runtime, 5 * found.p99_score_error)
    record = {
        "rung": "device",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bundle": manifest.name, "target": manifest.target, "precision": manifest.precision,
        "plan_hash": manifest.plan_hash, "manifest_sha256": sha256(bundle.path / MANIFEST),
        "device": machine.device(), "clocks": machine.clocks(), "versions": machine.versions(),
        "golden": asdict(found), "knife_edge": asdict(edge),
        "measured": measure(runtime, pixels, list(manifest.policies().values())),
    }  # fmt: skip
    atomic_write(out, json.dumps(record, indent=1) + "\n")
    return record
