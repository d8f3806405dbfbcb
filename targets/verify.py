"""Verify a bundle where it stands: hashes, then the golden answers through this machine's runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mue_edge.bundle import Bundle
from mue_edge.driver import Runtime, show
from mue_edge.errors import VerificationError
from mue_edge.policy import from_json
from mue_edge.replay import log_of, replay, run
from mue_edge.targets import golden

# A replayed score may differ by this much; other precisions report and do not promise.
SCORE_TOLERANCE = {"fp32": 1e-5}


@dataclass(frozen=True)
class Verified:
    """What was compared: logs replayed with forced exits, and run freely."""

    logs: int
    scores: int
    max_score_error: float
    p99_score_error: float
    replay_same_tokens: int
    free_same_tokens: int
    free_same_exits: int


def verify(bundle: Bundle, runtime: Runtime) -> Verified:
    """Replay and rerun every golden log. Raises VerificationError when an fp32 bundle differs."""
    manifest = bundle.manifest
    layout, settings = manifest.loop_layout(), manifest.search
    shown, logs = golden.read(bundle)
    errors: list[float] = []
    same = free = exits = 0
    for entry in logs:
        show(runtime, golden.pixels(shown[entry.picture], manifest.preprocess), entry.source)
        difference = replay(entry.log, layout, settings, runtime, source=entry.source)
        errors += difference.score_errors
        same += difference.same_tokens
        again = log_of(run(layout, settings, from_json(entry.policy), runtime, source=entry.source))
        free += again.tokens == entry.log.tokens
        exits += (again.depths, again.decoder) == (dict(entry.log.depths), entry.log.decoder)
    found = Verified(len(logs), len(errors), max(errors), float(np.percentile(errors, 99)), same, free, exits)
    tolerance = SCORE_TOLERANCE.get(manifest.precision)
    if tolerance is not None and (same < len(logs) or found.max_score_error > tolerance):
        raise VerificationError(
            f"{bundle.path}: golden replay differs: tokens equal in {same} of {len(logs)} logs, "
            f"largest score error {found.max_score_error:.1e} (allowed {tolerance:.0e})"
        )
    return found
