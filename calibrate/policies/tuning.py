"""Judges candidate policies on *tune*: predicted time, quality, and the front between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.traces.outcomes import SampleRuns, TracedRun
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER
from mue_edge.measuring.profile import Profile

# Texts of all pictures' captions → a score each, 0 … 10 (CIDEr-D) or 0 … 1 (consistency).
Score = Callable[[Sequence[str]], Sequence[float]]
Speak = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Judged:
    """A policy over a set of pictures: predicted seconds of each caption (noise left out), its score, text
    and run (shared with the policies that run alike), and mean layers run by stack.

    `safe` is the quality that may be counted on elsewhere, and what choices go by: of many candidates the
    best mean is often a lucky one."""

    policy: Policy
    seconds: NDArray[np.float64]
    scores: NDArray[np.float64]
    captions: tuple[str, ...]
    layers: dict[str, float]
    quality: float
    safe: float
    runs: tuple[TracedRun, ...]

    @property
    def mean_seconds(self) -> float:
        return float(self.seconds.mean())


def judge(
    policies: Sequence[Policy], found: Iterable[SampleRuns], clusters: Sequence[str],
    profile: Profile, score: Score, speak: Speak,
) -> list[Judged]:  # fmt: skip
    """Every policy, full depth first, over the samples' runs; quality is the mean over clusters of the mean
    score."""
    by_sample = [found.runs for found in found]
    groups, times = Clusters(clusters), _Times(profile)
    judged: list[Judged] = []
    for i, policy in enumerate(policies):
        runs = tuple(runs[i] for runs in by_sample)
        captions = tuple(speak(run.tokens) for run in runs)
        scores = np.asarray(score(captions), dtype=np.float64)
        seconds = np.asarray([times(run) for run in runs])
        quality = float(groups.means(scores).mean())
        safe = safe_quality(scores, judged[0].scores if judged else scores, groups)
        judged.append(Judged(policy, seconds, scores, captions, mean_layers(runs), quality, safe, runs))
    return judged


def safe_quality(scores: NDArray[np.float64], full: NDArray[np.float64], groups: Clusters) -> float:
    """Full depth's quality, less what a policy with these scores loses (nothing, if it seems to gain) and one
    standard error of that."""
    lost = groups.means(full - scores)
    error = float(lost.std(ddof=1)) / groups.count**0.5 if groups.count > 1 else 0.0
    return float(groups.means(full).mean()) - max(0.0, float(lost.mean())) - error


def mean_layers(runs: Sequence[TracedRun]) -> dict[str, float]:
    """Layers run a picture by encoder stack, and a token by the decoder."""
    layers = {stack: sum(run.depths[stack] for run in runs) / len(runs) for stack in runs[0].depths}
    steps = [depth for run in runs for depth in run.decoder]
    return layers | {DECODER: sum(steps) / len(steps)}


def front(judged: Sequence[Judged]) -> list[Judged]:
    """Those that no faster one equals in safe quality, from fastest to slowest."""
    kept: list[Judged] = []
    for one in sorted(judged, key=lambda j: (j.mean_seconds, -j.safe, j.policy.name)):
        if not kept or one.safe > kept[-1].safe:
            kept.append(one)
    return kept


def late_share(seconds: NDArray[np.float64], profile: Profile, budget: float) -> float:
    """Foretold share of captions that take longer than `budget` seconds.

    Noise is taken as log-normal through the profile's two quantiles; without noise (an estimate) a
    caption is late when its prediction is.
    """
    middle, spread = _noise(profile)
    if spread == 0:
        return float((seconds * middle > budget).mean())
    margins = np.log(budget / (seconds * middle)) / spread
    return float(np.mean([1 - NormalDist().cdf(float(margin)) for margin in margins]))


def expected_noise(profile: Profile) -> float:
    """Mean of the noise factor: what turns predictions into mean seconds."""
    middle, spread = _noise(profile)
    return middle * math.exp(spread**2 / 2)


def quantile_seconds(seconds: NDArray[np.float64], profile: Profile, share: float) -> float:
    """The budget that a `share` of captions is foretold to keep: `late_share` turned round, by bisection."""
    middle, spread = _noise(profile)
    factor = middle * math.exp(spread * NormalDist().inv_cdf(share))
    # Where the fastest and where the slowest caption alone would keep it.
    low, high = float(seconds.min()) * factor, float(seconds.max()) * factor * (1 + 1e-9)
    for _ in range(40):
        centre = math.sqrt(low * high)
        low, high = (low, centre) if late_share(seconds, profile, centre) <= 1 - share else (centre, high)
    return high


def _noise(profile: Profile) -> tuple[float, float]:
    """Median and log-scale spread of the noise factor; (1, 0) without noise."""
    if profile.noise is None:
        return 1.0, 0.0
    spread = math.log(profile.noise.p95 / profile.noise.p50) / NormalDist().inv_cdf(0.95)
    return profile.noise.p50, spread


class _Times:
    """Predicted seconds of runs, remembered: many policies share a run."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._extra = profile.preprocess_seconds or 0.0
        self._known: dict[tuple[str, ...], float] = {}

    def __call__(self, run: TracedRun) -> float:
        if run.segments not in self._known:
            self._known[run.segments] = self._profile.predict(run.segments) + self._extra
        return self._known[run.segments]
