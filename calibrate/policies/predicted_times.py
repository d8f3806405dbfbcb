"""Predicted seconds of runs, with a profile's noise: the mean, quantiles, and the share of late captions.

Noise is a factor that all calls of a caption share, taken as log-normal through the profile's two quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mue_edge.bundle.manifest import Manifest
from mue_edge.loop.exit_tests import runs_head
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Stack
from mue_edge.measuring.profile import Profile


class FusedSavings:
    """What fused segments save a policy's runs, which were traced a segment at a time.

    Between two tests everything waits, so what is fused follows from where the policy tests. Times are the
    profile's: a fused segment's instead of its members'.
    """

    def __init__(self, manifest: Manifest, profile: Profile) -> None:
        self._layout, self._max_length = manifest.layout, manifest.search.max_length
        self._saved = {
            fused.members: sum(profile.segments[run].median for run in fused.members) - profile.fused[name].median
            for name, fused in manifest.fused.items()
            if name in profile.fused
        }
        self._tested: dict[tuple[Policy, str, int], bool] = {}

    def seconds(self, policy: Policy, depths: Mapping[str, int], decoder: Sequence[int]) -> float:
        """Saved in a run of these depths, by encoder stack and by word."""
        if not self._saved:
            return 0.0
        saved, stacks = self._saved.get, self._layout.stacks
        total = sum(
            saved(tuple(stage.name for stage in stack.stages), 0.0)
            for stack in stacks[:-1]
            if depths[stack.name] == stack.depth and not self._tests(policy, stack, 0)
        )
        stack = stacks[-1]
        names = tuple(stage.name for stage in stack.stages)
        ran = policy.stages(stack.name, stack.ends)
        deepest = sum(map(stack.layers, ran))
        for step, depth in enumerate(decoder):
            if depth == stack.depth and not self._tests(policy, stack, step):
                total += saved(("embed", *names, "head"), 0.0)
                if step == 0:
                    total += saved(tuple(f"cross_kv.{j}" for j in range(len(names))), 0.0)
                continue
            if ran[0] == 0:
                total += saved(("embed", names[0]), 0.0)
            if depth == deepest and ran[-1] + 1 == len(names) > 1:
                total += saved((names[-1], "head"), 0.0)
        return total

    def _tests(self, policy: Policy, stack: Stack, step: int) -> bool:
        """Whether the policy reads anything at the stack's boundaries."""
        key = policy, stack.name, step
        if key not in self._tested:
            thresholds = [policy.threshold(stack.name, end, step, self._max_length) for end in stack.ends[:-1]]
            self._tested[key] = any(math.isfinite(t) or runs_head(policy, stack.name, t) for t in thresholds)
        return self._tested[key]


def late_fraction(seconds: NDArray[np.float64], profile: Profile, budget: float) -> float:
    """Predicted share of captions that take longer than `budget` seconds; without noise (an estimate) a
    caption is late when its prediction is."""
    median, spread = _noise(profile)
    if spread == 0:
        return float((seconds * median > budget).mean())
    margins = np.log(budget / (seconds * median)) / spread
    return float(np.mean([1 - NormalDist().cdf(float(margin)) for margin in margins]))


def expected_noise(profile: Profile) -> float:
    """Mean of the noise factor: what turns predictions into mean seconds."""
    median, spread = _noise(profile)
    return median * math.exp(spread**2 / 2)


def quantile_seconds(seconds: NDArray[np.float64], profile: Profile, share: float) -> float:
    """The budget that a predicted `share` of captions keeps: `late_fraction` inverted, by bisection."""
    median, spread = _noise(profile)
    factor = median * math.exp(spread * NormalDist().inv_cdf(share))
    # Where the fastest and where the slowest caption alone would keep it.
    low, high = float(seconds.min()) * factor, float(seconds.max()) * factor * (1 + 1e-9)
    for _ in range(40):
        centre = math.sqrt(low * high)
        low, high = (low, centre) if late_fraction(seconds, profile, centre) <= 1 - share else (centre, high)
    return high


def _noise(profile: Profile) -> tuple[float, float]:
    """Median and log-scale spread of the noise factor; (1, 0) without noise."""
    if profile.noise is None:
        return 1.0, 0.0
    spread = math.log(profile.noise.p95 / profile.noise.p50) / NormalDist().inv_cdf(0.95)
    return profile.noise.p50, spread
