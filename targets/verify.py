"""Verify a bundle where it stands: hashes, then the golden answers through this machine's runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mue_edge.bundle.folder import Bundle
from mue_edge.bundle.policy_files import from_json
from mue_edge.errors import VerificationError
from mue_edge.loop.driver import Runtime, set_inputs
from mue_edge.loop.replay import decision_log, replay, run
from mue_edge.targets import golden

# A replayed score may differ by this much; other precisions report and do not promise.
SCORE_TOLERANCE = {"fp32": 1e-5}
# An int8 segment's error is that by exact sums, give or take this share.
SUM_TOLERANCE = 0.05


@dataclass(frozen=True)
class Verified:
    """What was compared: logs replayed with forced exits, and run freely.

    sums: int8 segment → its error against float, as a multiple of that by exact sums.
    """

    logs: int
    scores: int
    max_score_error: float
    p99_score_error: float
    replay_same_tokens: int
    free_same_tokens: int
    free_same_exits: int
    sums: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Caller(Protocol):
    """A runtime that runs one segment by itself, for one of its outputs."""

    def call(self, run: str, port: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]: ...


def verify(bundle: Bundle, runtime: Runtime) -> Verified:
    """Replay and rerun every golden log. Raises VerificationError when an fp32 bundle differs, and when
    integer products of an int8 one are not summed exactly."""
    manifest = bundle.manifest
    sums = check_sums(bundle, runtime)
    layout, settings = manifest.layout, manifest.search
    shown, logs = golden.read(bundle)
    errors: list[float] = []
    same = free = exits = 0
    for entry in logs:
        set_inputs(runtime, golden.pixels(shown[entry.picture], manifest.preprocess), entry.source)
        difference = replay(entry.log, layout, settings, runtime, source=entry.source)
        errors += difference.score_errors
        same += difference.same_tokens
        again = decision_log(run(layout, settings, from_json(entry.policy), runtime, source=entry.source))
        free += again.tokens == entry.log.tokens
        exits += (again.depths, again.decoder) == (dict(entry.log.depths), entry.log.decoder)
    p99 = float(np.percentile(errors, 99))
    found = Verified(len(logs), len(errors), max(errors), p99, same, free, exits, sums)
    tolerance = SCORE_TOLERANCE.get(manifest.precision)
    if tolerance is not None and (same < len(logs) or found.max_score_error > tolerance):
        raise VerificationError(
            f"{bundle.path}: golden replay differs: tokens equal in {same} of {len(logs)} logs, "
            f"largest score error {found.max_score_error:.1e} (allowed {tolerance:.0e})"
        )
    return found


def check_sums(bundle: Bundle, runtime: object) -> dict[str, float]:
    """Run the int8 segments whose errors by exact sums the bundle holds; see `Verified.sums`."""
    found: dict[str, float] = {}
    if not isinstance(runtime, Caller):
        return found
    for sums in golden.read_sums(bundle):
        answer = runtime.call(sums.segment, sums.port, sums.inputs)
        found[sums.segment] = golden.rms(answer, sums.wanted) / sums.error
    wrong = {name: times for name, times in found.items() if not abs(times - 1) <= SUM_TOLERANCE}
    if wrong:
        times = ", ".join(f"{name} {value:.2f}" for name, value in wrong.items())
        raise VerificationError(
            f"{bundle.path}: this runtime does not sum int8 products exactly on this processor: errors of "
            f"segments, as multiples of those by exact sums: {times} (allowed 1 ± {SUM_TOLERANCE:g}). "
            "Captions and exits would not be those of other devices; install another version of the runtime "
            "(mue-edge doctor shows this one), or export again with --precision fp32"
        )
    return found
