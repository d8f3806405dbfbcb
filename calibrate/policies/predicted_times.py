"""Predicted seconds with a profile's noise: the mean, quantiles, and the share of late captions.

Noise is a factor that all calls of a caption share, taken as log-normal through the profile's two quantiles.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mue_edge.measuring.profile import Profile


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
