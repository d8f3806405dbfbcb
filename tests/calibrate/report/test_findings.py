"""The figures behind a result: a short front, exits, parts of the time, live times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mue_edge.calibrate.policies import predicted_times
from mue_edge.calibrate.policies.calibration import Calibration
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome
from mue_edge.calibrate.report import findings
from mue_edge.calibrate.report.findings import MOST_POLICIES, WordPosition
from mue_edge.loop.policy import Policy, StackExit
from tests.calibrate import made_calibration
from tests.calibrate.made_calibration import calibration, evaluator, run


@pytest.fixture
def here(tmp_path: Path) -> PolicyEvaluator:
    return evaluator(tmp_path)


def long_front(here: PolicyEvaluator, count: int) -> Calibration:
    """A front of `count` policies, the first half of them crowded at the fast end."""
    base = calibration(here)
    full = base.search.full

    def step(i: int) -> PolicyOutcome:
        seconds = np.full(made_calibration.PICTURES, 1e-3 * (i if i < count // 2 else 10 * i))
        return replace(full, policy=Policy("mue", {"image": StackExit(0.5)}, name=f"p{i}"), seconds=seconds)

    front = (*map(step, range(1, count)), replace(full, seconds=full.seconds + 9.0))
    search = replace(base.search, outcomes=(front[-1],), pareto_front=front)
    return replace(base, search=search, chosen=front[2], fastest=front[1])


def test_a_long_front_is_spread_in_time_and_keeps_who_matters(here: PolicyEvaluator) -> None:
    found = long_front(here, 60)
    short = findings.shortened(found)
    names = [j.policy.name for j in short]
    assert len(short) == MOST_POLICIES and names[0] == "p1" and {"p2", "p3"} <= set(names)
    assert short[-1] is found.search.full
    times = [j.mean_seconds for j in short]
    assert times == sorted(times)
    # Half of the policies lie in the first twentieth of the time; few of them are needed there.
    assert sum(1 for t in times if t < 0.031) <= 5
    gaps = np.diff([t for t in times if 0.25 < t < 1])
    assert len(gaps) >= 5 and gaps.max() <= 3 * gaps.min()


def test_a_short_front_is_whole_and_the_certified_one_joins_it(here: PolicyEvaluator) -> None:
    found = calibration(here)
    assert [j.policy.name for j in findings.shortened(found)] == ["quick", "safe", "full"]
    other = next(j for j in found.search.outcomes if j.policy.name == "fixed-1-3")
    assert "fixed-1-3" in [j.policy.name for j in findings.shortened(replace(found, fastest=other))]


def test_exits_and_positions_count_captions_and_tokens() -> None:
    runs = [run(1, (1, 1, 2)), run(3, (3,)), run(3, (3, 2)), run(1, (3, 3))]
    exits = findings.exits(runs)
    assert exits["image"] == {1: 0.5, 3: 0.5} and exits["text"] == {3: 1.0}
    assert exits["decoder"] == {1: 2 / 8, 2: 2 / 8, 3: 4 / 8}
    assert findings.positions(runs) == (WordPosition(2.5, 4), WordPosition(2.0, 3), WordPosition(2.0, 1))


def test_points_carry_what_is_foretold_and_parts_add_up_to_it(here: PolicyEvaluator) -> None:
    made = calibration(here)
    found = findings.find(made, None)
    noise = predicted_times.expected_noise(here.profile)
    assert 1.0 < noise < 1.2
    for point, judged in ((found.full, made.search.full), (found.chosen, made.chosen)):
        assert point.mean == pytest.approx(noise * judged.mean_seconds)
        assert point.policy.seconds == point.mean and point.policy.quality == point.kept
        assert point.policy.plan == here.manifest.plan_hash
    for i, point in enumerate((found.full, found.chosen)):
        assert sum(both[i] for both in found.parts.values()) == pytest.approx(point.mean)
    assert found.parts["picture"] == pytest.approx((1e-3 * noise, 1e-3 * noise))
    # One of eight captions gains 1 of 5 points.
    assert found.chosen.kept == pytest.approx(41 / 40) and found.chosen.on_certify == pytest.approx((41 / 8, 41 / 40))
    assert found.live == {} and found.fits == (found.full.p95 <= made.budget)


def test_whether_full_depth_fits(here: PolicyEvaluator) -> None:
    made = calibration(here)
    p95 = findings.find(made, None).full.p95
    for budget, fits in ((1.01 * p95, True), (0.99 * p95, False)):
        assert findings.find(replace(made, budget=budget), None).fits is fits


def test_live_times_are_paired_with_full_depth() -> None:
    full = np.array([0.040, 0.020, 0.030])
    found = findings.timed({"full": full, "safe": full / 2}, "full", budget=0.019)
    assert found["safe"].ratio == 0.5 and found["safe"].late == 1 and found["full"].late == 3
    assert found["safe"].mean == pytest.approx(0.015) and found["full"].captions == 3
    assert found["safe"].p95 == pytest.approx(np.percentile(full / 2, 95))
