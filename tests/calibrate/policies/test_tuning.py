"""Times with noise, and what judging keeps of the runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import tuning
from mue_edge.calibrate.traces.outcomes import SampleRuns
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.measuring.profile import Noise, Profile
from tests.calibrate.made_calibration import FULL, run, setting

SECONDS = np.random.default_rng(0).uniform(0.01, 0.03, 200)


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return setting(tmp_path).profile


@pytest.mark.parametrize(
    "noise", [None, Noise(1.0, 1.0), Noise(1.0, 1.3), Noise(26.0, 82.0), Noise(0.2, 0.21)]
)
@pytest.mark.parametrize("share", [0.5, 0.95, 0.999])
def test_a_quantile_is_the_least_budget_that_the_share_keeps(
    profile: Profile, noise: Noise | None, share: float
) -> None:
    known = replace(profile, noise=noise)
    limit = tuning.quantile_seconds(SECONDS, known, share)
    assert tuning.late_share(SECONDS, known, limit) <= 1 - share
    assert tuning.late_share(SECONDS, known, 0.999 * limit) > 1 - share - 0.006


def test_noise_is_that_of_the_profiles_quantiles(profile: Profile) -> None:
    known = replace(profile, noise=Noise(1.1, 1.5))
    drawn = np.exp(np.random.default_rng(1).normal(np.log(1.1), np.log(1.5 / 1.1) / 1.6449, 200_000))
    assert np.percentile(drawn, 95) == pytest.approx(1.5, rel=0.01)
    assert tuning.expected_noise(known) == pytest.approx(drawn.mean(), rel=0.005)
    one = np.array([0.02])
    assert tuning.late_share(one, known, 0.025) == pytest.approx((drawn > 1.25).mean(), abs=0.005)
    assert tuning.expected_noise(replace(known, noise=None)) == 1.0


def test_judging_keeps_the_runs_themselves(profile: Profile) -> None:
    policies = [FULL, Policy("fixed", {"decoder": StackExit(depth=1)}, name="short")]
    runs = [(run(3, (3, 3)), run(3, (1, 1))), (run(3, (3,)), run(3, (1,)))]
    found = [SampleRuns(str(i), pair, 0, 0, 0) for i, pair in enumerate(runs)]
    full, short = tuning.judge(policies, found, ["a", "b"], profile, lambda texts: [5.0, 4.0], lambda _: "x")
    assert full.runs == (runs[0][0], runs[1][0]) and full.runs[0] is runs[0][0]
    assert short.layers == {"image": 3.0, "text": 3.0, "decoder": 1.0} and short.quality == 4.5
    # A millisecond a call, two a caption, one a picture.
    assert full.seconds == pytest.approx([1e-3 * (3 + 4 + 2 * 5), 1e-3 * (3 + 4 + 5)])


def test_luck_is_not_counted_on() -> None:
    """A policy that seems better than full depth is counted as equal to it, less one standard error."""
    rng, groups = np.random.default_rng(0), Clusters([str(i) for i in range(400)])
    full = rng.uniform(0, 10, 400)
    near, wild = full - 0.02 * (rng.random(400) < 0.1), full + rng.normal(0.3, 4, 400)
    worse = full - rng.uniform(0, 2, 400)
    assert tuning.safe_quality(full, full, groups) == pytest.approx(full.mean())
    error = np.std(wild - full, ddof=1) / 20
    assert wild.mean() > full.mean()
    assert tuning.safe_quality(wild, full, groups) == pytest.approx(full.mean() - error)
    error = np.std(worse - full, ddof=1) / 20
    assert tuning.safe_quality(worse, full, groups) == pytest.approx(worse.mean() - error)
    assert tuning.safe_quality(near, full, groups) > tuning.safe_quality(wild, full, groups)


def test_the_front_goes_by_what_may_be_counted_on(profile: Profile) -> None:
    """Of full depth, a faster one that luck favours and one between them that hardly differs, all stay."""
    policies = [
        FULL,
        Policy("fixed", {"decoder": StackExit(depth=1)}, name="lucky"),
        Policy("fixed", {"decoder": StackExit(depth=2)}, name="near"),
    ]
    depths = {"lucky": 1, "near": 2}
    names = [str(i) for i in range(10)]
    found = [
        SampleRuns(name, (run(3, (3,)), run(3, (depths["lucky"],)), run(3, (depths["near"],))), 0, 0, 0)
        for name in names
    ]
    scores = iter([[5.0] * 10, [1.0] * 4 + [9.0] * 6, [5.0] * 9 + [4.9]])
    judged = tuning.judge(policies, found, names, profile, lambda _: next(scores), lambda _: "x")
    assert judged[1].quality > judged[0].quality > judged[2].quality
    assert [j.policy.name for j in tuning.front(judged)] == ["lucky", "near", "full"]
