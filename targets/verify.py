"""Verify a bundle where it stands: its golden answers through this machine's runtime; and on its device sign
it off (verification level `device`), in a JSON file beside the bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from mue_edge import machine
from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.manifest import MANIFEST
from mue_edge.bundle.policy_files import from_json
from mue_edge.errors import VerificationError
from mue_edge.files import atomic_write, sha256
from mue_edge.loop.driver import Runtime, Watcher, set_inputs
from mue_edge.loop.policy import Policy
from mue_edge.loop.replay import compare, decision_log, replay, run
from mue_edge.targets import golden

# A replayed score may differ by this much; other precisions report and do not promise.
SCORE_TOLERANCE = {"fp32": 1e-5}
# An int8 segment's error is that by exact sums, give or take this share.
SUM_TOLERANCE = 0.05


@dataclass(frozen=True)
class Verified:
    """What was compared: logs replayed with forced exits, and run freely. sums: int8 segment → its error
    against float, as a multiple of that by exact sums."""

    logs: int
    scores: int
    max_score_error: float
    p99_score_error: float
    replay_same_tokens: int
    free_same_tokens: int
    free_same_exits: int
    sums: Mapping[str, float] = field(default_factory=dict)


def shown(bundle: Bundle, runtime: Runtime) -> Iterator[golden.Golden]:
    """Every golden answer of a bundle, after the runtime was given its picture and text."""
    pictures, entries = golden.read(bundle)
    for entry in entries:
        set_inputs(runtime, golden.pixels(pictures[entry.picture], bundle.manifest.preprocess), entry.source)
        yield entry


def verify(
    bundle: Bundle,
    runtime: Runtime,
    watch: Callable[[], Watcher | None] = lambda: None,
    step: Callable[[], object] = lambda: None,
) -> Verified:
    """Replay and rerun every golden log. watch: makes the watcher of a free run at full depth; step: called
    after each log. Raises VerificationError when an fp32 bundle differs, and when integer products of an int8
    one are not summed exactly.

    Where exits are tested, a free run that leaves where the log did is its own replay. Full depth is run once
    more with nothing read between the segments, as devices run it.
    """
    manifest = bundle.manifest
    sums = check_sums(bundle, runtime)
    layout, settings = manifest.layout, manifest.search
    errors: list[float] = []
    logs = same = free = exits = 0
    for entry in shown(bundle, runtime):
        logs += 1
        policy = from_json(entry.policy)
        tested = policy.may_exit
        watcher = None if tested else watch()
        outcome = run(layout, settings, policy, runtime, trace=tested, source=entry.source, watch=watcher)
        again = decision_log(outcome)
        same_exits = (again.depths, again.decoder) == (dict(entry.log.depths), entry.log.decoder)
        if tested and same_exits:
            difference = compare(entry.log, again)
        else:
            difference = replay(entry.log, layout, settings, runtime, source=entry.source)
        errors += difference.score_errors
        same += difference.same_tokens
        free += again.tokens == entry.log.tokens
        exits += same_exits
        step()
    worst, p99 = max(errors), float(np.percentile(errors, 99))
    tolerance = SCORE_TOLERANCE.get(manifest.precision)
    if tolerance is not None and (same < logs or worst > tolerance):
        raise VerificationError(
            f"{bundle.path}: golden replay differs: tokens equal in {same} of {logs} logs, "
            f"largest score error {worst:.1e} (allowed {tolerance:.0e})"
        )
    return Verified(logs, len(errors), worst, p99, same, free, exits, sums)


def check_sums(bundle: Bundle, runtime: object) -> dict[str, float]:
    """Run the int8 segments whose errors by exact sums the bundle holds; see `Verified.sums`."""
    call = getattr(runtime, "call", None)  # runs one segment by itself, where a runtime can
    if call is None:
        return {}
    ratios = {
        sums.segment: golden.rms(call(sums.segment, sums.port, sums.inputs), sums.wanted) / sums.error
        for sums in golden.read_sums(bundle)
    }
    wrong = [f"{name} {times:.2f}" for name, times in ratios.items() if not abs(times - 1) <= SUM_TOLERANCE]
    if wrong:
        raise VerificationError(
            f"{bundle.path}: this runtime does not sum int8 products exactly on this processor: errors of "
            f"segments, as multiples of those by exact sums: {', '.join(wrong)} (allowed 1 ± "
            f"{SUM_TOLERANCE:g}). Captions and exits would not be those of other devices; install another "
            "version of the runtime (mue-edge doctor shows this one), or export again with --precision fp32"
        )
    return ratios


def signoff_path(bundle: Path) -> Path:
    """Where a bundle's sign-off is written: beside its folder."""
    folder = bundle.absolute()
    return folder.with_name(f"{folder.name}.device.json")


# Of the target: figures that only the device has.
Measure = Callable[[Runtime, list[object], list[Policy]], dict[str, Any]]


def knife_edge(bundle: Bundle, runtime: Runtime, within: float) -> dict[str, float]:
    """Of the exit tests with a threshold under every golden log's policy, run freely, how many scores lie
    within that distance of it: what of a differing exit is rounding."""
    manifest = bundle.manifest
    distances = []
    for entry in shown(bundle, runtime):
        policy = from_json(entry.policy)
        outcome = run(manifest.layout, manifest.search, policy, runtime, source=entry.source)
        tests = (d for d in outcome.decisions if d.scores and math.isfinite(d.threshold))
        distances += [abs(min(d.scores) - d.threshold) for d in tests]
    return {"tests": len(distances), "close": sum(d <= within for d in distances), "within": within}


def sign_off(bundle: Bundle, runtime: Runtime, verified: Verified, measure: Measure, out: Path) -> dict[str, Any]:
    """Measure, write `out` and return its content. A test is on a knife's edge within five times the 99th
    percentile of the replayed scores' error."""
    manifest = bundle.manifest
    pictures, _ = golden.read(bundle)
    pixels: list[object] = [golden.pixels(picture, manifest.preprocess) for picture in pictures]
    record = {
        "rung": "device",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "bundle": manifest.name,
        **{name: getattr(manifest, name) for name in ("target", "precision", "plan_hash")},
        "manifest_sha256": sha256(bundle.path / MANIFEST),
        **{name: getattr(machine, name)() for name in ("device", "clocks", "versions")},
        "golden": asdict(verified),
        "knife_edge": knife_edge(bundle, runtime, 5 * verified.p99_score_error),
        "measured": measure(runtime, pixels, list(manifest.policies().values())),
    }
    atomic_write(out, json.dumps(record, indent=1) + "\n")
    return record
