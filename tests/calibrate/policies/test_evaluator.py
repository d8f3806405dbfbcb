"""Times with noise, and what an outcome keeps of the runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import evaluator
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome, quality_lower_bound
from mue_edge.calibrate.policies.predicted_times import expected_noise, late_fraction, quantile_seconds
from mue_edge.calibrate.traces.tracing import Sample, SampleRuns, TracedRun
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.measuring.profile import Noise, Profile
from mue_edge.sessions.captioner import FULL
from tests.calibrate import made_calibration
from tests.calibrate.made_calibration import run

SECONDS = np.random.default_rng(0).uniform(0.01, 0.03, 200)


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return made_calibration.evaluator(tmp_path).profile


@pytest.mark.parametrize("noise", [None, Noise(1.0, 1.0), Noise(1.0, 1.3), Noise(26.0, 82.0), Noise(0.2, 0.21)])
@pytest.mark.parametrize("share", [0.5, 0.95, 0.999])
def test_a_quantile_is_the_least_budget_that_the_share_keeps(
    profile: Profile, noise: Noise | None, share: float
) -> None:
    known = replace(profile, noise=noise)
    limit = quantile_seconds(SECONDS, known, share)
    assert late_fraction(SECONDS, known, limit) <= 1 - share
    assert late_fraction(SECONDS, known, 0.999 * limit) > 1 - share - 0.006


def test_noise_is_that_of_the_profiles_quantiles(profile: Profile) -> None:
    known = replace(profile, noise=Noise(1.1, 1.5))
    drawn = np.exp(np.random.default_rng(1).normal(np.log(1.1), np.log(1.5 / 1.1) / 1.6449, 200_000))
    assert np.percentile(drawn, 95) == pytest.approx(1.5, rel=0.01)
    assert expected_noise(known) == pytest.approx(drawn.mean(), rel=0.005)
    one = np.array([0.02])
    assert late_fraction(one, known, 0.025) == pytest.approx((drawn > 1.25).mean(), abs=0.005)
    assert expected_noise(replace(known, noise=None)) == 1.0


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[PolicyOutcome]]:
    """Policies' outcomes from their runs on each sample and from each policy's scores."""

    def evaluate(
        policies: list[Policy], runs: list[tuple[TracedRun, ...]], clusters: list[str], scores: list[list[float]]
    ) -> list[PolicyOutcome]:
        found = [SampleRuns(str(i), own, 0, 0, 0) for i, own in enumerate(runs)]
        by_policy = iter(scores)
        monkeypatch.setattr(evaluator, "traced_runs", lambda *_, **__: iter(found))
        monkeypatch.setattr(PolicyEvaluator, "_score", lambda *_: lambda captions: next(by_policy))
        samples = tuple(Sample(own.sample, b"") for own in found)
        made = made_calibration.evaluator(tmp_path)
        return made.evaluate(policies, Samples("made", samples, tuple(clusters), None), "made")

    return evaluate


def test_outcomes_keep_the_runs_themselves(evaluated: Callable[..., list[PolicyOutcome]]) -> None:
    policies = [FULL, Policy("fixed", {"decoder": StackExit(depth=1)}, name="short")]
    runs = [(run(3, (3, 3)), run(3, (1, 1))), (run(3, (3,)), run(3, (1,)))]
    full, short = evaluated(policies, runs, ["a", "b"], [[5.0, 4.0]] * 2)
    assert full.runs == (runs[0][0], runs[1][0]) and full.runs[0] is runs[0][0]
    assert short.layers == {"image": 3.0, "text": 3.0, "decoder": 1.0} and short.quality == 4.5
    # A millisecond a call, two a caption, one a picture.
    assert full.seconds == pytest.approx([1e-3 * (3 + 4 + 2 * 5), 1e-3 * (3 + 4 + 5)])


def test_luck_is_left_out() -> None:
    """A policy that seems better than full depth is counted as equal to it, less one standard error."""
    rng, groups = np.random.default_rng(0), Clusters([str(i) for i in range(400)])
    full = rng.uniform(0, 10, 400)
    near, wild = full - 0.02 * (rng.random(400) < 0.1), full + rng.normal(0.3, 4, 400)
    worse = full - rng.uniform(0, 2, 400)
    assert quality_lower_bound(full, full, groups) == pytest.approx(full.mean())
    error = np.std(wild - full, ddof=1) / 20
    assert wild.mean() > full.mean()
    assert quality_lower_bound(wild, full, groups) == pytest.approx(full.mean() - error)
    error = np.std(worse - full, ddof=1) / 20
    assert quality_lower_bound(worse, full, groups) == pytest.approx(worse.mean() - error)
    assert quality_lower_bound(near, full, groups) > quality_lower_bound(wild, full, groups)


def test_the_front_goes_by_the_lower_bound(evaluated: Callable[..., list[PolicyOutcome]]) -> None:
    """Of full depth, a faster one that luck favours and one between them that hardly differs, all stay."""
    policies = [
        FULL,
        Policy("fixed", {"decoder": StackExit(depth=1)}, name="lucky"),
        Policy("fixed", {"decoder": StackExit(depth=2)}, name="near"),
    ]
    depths = {"lucky": 1, "near": 2}
    names = [str(i) for i in range(10)]
    runs = [(run(3, (3,)), run(3, (depths["lucky"],)), run(3, (depths["near"],)))] * 10
    scores = [[5.0] * 10, [1.0] * 4 + [9.0] * 6, [5.0] * 9 + [4.9]]
    outcomes = evaluated(policies, runs, names, scores)
    assert outcomes[1].quality > outcomes[0].quality > outcomes[2].quality
    assert [j.policy.name for j in evaluator.pareto_front(outcomes)] == ["lucky", "near", "full"]
