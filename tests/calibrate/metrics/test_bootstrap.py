"""Bootstrap intervals: they cover as often as they say, count clusters, and pair what is compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mue_edge.calibrate.metrics.bootstrap import Estimate, Tally, estimate, mean_of, relative_change


def _clustered(rng: np.random.Generator, clusters: int) -> tuple[list[float], list[str]]:
    """Three values a cluster around its own mean; the mean of all is 1."""
    own = rng.normal(1, 0.5, clusters).repeat(3)
    return (own + rng.normal(0, 0.1, 3 * clusters)).tolist(), [str(i // 3) for i in range(3 * clusters)]


def test_standard_errors_count_clusters() -> None:
    values, clusters = _clustered(np.random.default_rng(1), 200)
    found = estimate(mean_of(values), clusters)
    # The linearised standard error of a ratio (Cochran 1977), all clusters being of one size.
    means = np.asarray(values).reshape(200, 3).mean(1)
    assert found.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(200), rel=0.06)
    alone = estimate(mean_of(values), [str(i) for i in range(600)])
    assert alone.mean == found.mean == pytest.approx(float(means.mean()))
    assert alone.standard_error < 0.7 * found.standard_error


def test_intervals_cover_as_often_as_they_say() -> None:
    rng, covered = np.random.default_rng(2), {0.9: 0, 0.5: 0}
    for _ in range(200):
        values, clusters = _clustered(rng, 60)
        for level in covered:
            found = estimate(mean_of(values), clusters, level)
            covered[level] += found.low <= 1 <= found.high
            assert found.level == level
    assert 165 <= covered[0.9] <= 193
    assert 80 <= covered[0.5] <= 120


def test_changes_are_paired() -> None:
    values, clusters = _clustered(np.random.default_rng(3), 100)
    base, less = mean_of(values), mean_of([0.97 * value for value in values])
    change = relative_change(less, base, clusters)
    assert (change.mean, change.low, change.high) == pytest.approx((-0.03,) * 3)
    other = mean_of([value + 0.1 * (i % 2) for i, value in enumerate(values)])
    change = relative_change(other, base, clusters)
    assert change.mean == pytest.approx(0.05 / np.mean(values))
    assert 0 < change.low < change.mean < change.high
    # Far less than what the two vary by themselves.
    assert change.standard_error < 0.2 * estimate(base, clusters).standard_error


def test_a_metric_of_sums() -> None:
    """A ratio of sums is not the mean of ratios."""
    ratio = Tally(np.array([[1.0, 1.0], [0.0, 3.0]]), lambda sums: sums[..., 0] / sums[..., 1])
    found = estimate(ratio, ["a", "b"])
    assert found.mean == 0.25
    assert (found.low, found.high) == (0.0, 1.0)


def test_what_is_not_known_is_not_shown() -> None:
    one = estimate(mean_of([1.0, 0.0]), ["a", "a"])
    assert math.isnan(one.low) and math.isnan(one.standard_error)
    assert str(one) == "0.500"
    nothing = relative_change(mean_of([1.0, 1.0]), mean_of([0.0, 0.0]), ["a", "b"])
    assert math.isnan(nothing.mean)
    assert str(Estimate(0.5864, 0.02, 0.55, 0.62, 0.9)) == "0.586 [0.550, 0.620]"
    assert Estimate(-0.018, 0.01, -0.03, 0.001, 0.9).shown(1, 100, "+") == "-1.8 [-3.0, +0.1]"
