"""Figures of a sample with intervals: percentile bootstrap over clusters, also of paired changes.

Pictures of one cluster are drawn together: a repetition draws as many clusters as there are, with
replacement (Efron & Tibshirani 1993, ch. 13), always the same ones for the same clusters, so that two
sets of captions of the same pictures are compared pairwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.metrics.clusters import Clusters

Array = NDArray[np.float64]
REPETITIONS = 2000
LEVEL = 0.9


@dataclass(frozen=True)
class Estimate:
    """A figure, its standard error, and the ends of its interval at a level of confidence.

    NaN where fewer than two clusters leave them unknown; the figure too, where it is not defined.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        """As in "0.586 [0.550, 0.620]"."""
        return self.shown()

    def shown(self, digits: int = 3, scale: float = 1.0, sign: str = "") -> str:
        """`scale` 100 and `sign` "+" show changes in per cent."""
        if math.isnan(self.mean):
            return "not defined"
        mean, low, high = (f"{value * scale:{sign}.{digits}f}" for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]" if math.isfinite(self.low) else mean


@dataclass(frozen=True)
class Tally:
    """What a metric adds up over samples [n, k], and its value [...] from sums [..., k]."""

    rows: Array
    value: Callable[[Array], Array]

    def total(self) -> float:
        return float(self.value(self.rows.sum(0)))


def mean_of(values: Sequence[float]) -> Tally:
    """The metric that is a mean of one value a sample."""
    rows = np.stack([np.asarray(values, np.float64), np.ones(len(values))], 1)
    return Tally(rows, lambda sums: sums[..., 0] / sums[..., 1])


def estimate(tally: Tally, clusters: Sequence[str], level: float = LEVEL) -> Estimate:
    """The metric with its interval."""
    return _estimate(tally.total(), tally.value(_resampled(tally, clusters)), clusters, level)


def relative_change(tally: Tally, base: Tally, clusters: Sequence[str], level: float = LEVEL) -> Estimate:
    """`tally` / `base` − 1, of two sets of captions of the same pictures.

    NaN where the base is zero.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        change = float(np.divide(tally.total(), base.total())) - 1
        repeated = tally.value(_resampled(tally, clusters)) / base.value(_resampled(base, clusters)) - 1
    return _estimate(change if math.isfinite(change) else math.nan, repeated, clusters, level)


def change_of_means(values: Array, base: Array, clusters: Sequence[str]) -> Estimate:
    """Relative change of the mean over clusters of values by picture, with its interval."""
    groups = Clusters(clusters)
    tally, base_tally = (mean_of(groups.means(each).tolist()) for each in (values, base))
    return relative_change(tally, base_tally, [str(i) for i in range(groups.count)])


def _estimate(value: float, repeated: Array, clusters: Sequence[str], level: float) -> Estimate:
    # A repetition may happen to draw a base of zero; one in a hundred such is left out, no more.
    finite = repeated[np.isfinite(repeated)]
    if len(set(clusters)) < 2 or len(finite) < 0.99 * len(repeated):
        return Estimate(value, math.nan, math.nan, math.nan, level)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(finite.std(ddof=1)), float(low), float(high), level)


def _resampled(tally: Tally, clusters: Sequence[str]) -> Array:
    """Sums [repetitions, k] of what was drawn."""
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(names), tally.rows.shape[1]))
    np.add.at(sums, index, tally.rows)
    return _draws(len(names)) @ sums


@lru_cache(maxsize=2)
def _draws(clusters: int) -> Array:
    """How often each cluster was drawn: [repetitions, clusters]."""
    rng = np.random.default_rng(0)
    counts = np.empty((REPETITIONS, clusters))
    for row in counts:
        row[:] = np.bincount(rng.integers(0, clusters, clusters), minlength=clusters)
    return counts
