"""Coverage, power and the walk on simulated pools: quick versions of evidence/certificate.json."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from mue_edge.calibrate.certificate.binomial import lower_tail
from mue_edge.calibrate.certificate.power import clusters_needed, pairs, power, smallest_drop, smallest_share
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.errors import UsageError
from tools.verification import simulate

CASES = simulate.cases()


@pytest.mark.parametrize("i", range(len(CASES)))
def test_a_false_claim_is_certified_no_oftener_than_promised(i: int) -> None:
    found = simulate.coverage(CASES[i].pool, CASES[i].error, simulate.CLUSTERS)
    assert (found.drop, found.error) == (pytest.approx(simulate.PLACES[i][0], rel=0.3), simulate.PLACES[i][1])
    assert 0 < found.rate <= found.allowed


def test_coverage_has_teeth() -> None:
    # A normal test at the same level is too eager where large losses are rare; the count must show it.
    known, error = CASES[0].pool, CASES[0].error
    groups = Clusters(known.clusters)
    full, exits = groups.means(known.full), groups.means(known.exits)
    terms = exits - exits.mean() / full.mean() * full
    rows = np.random.default_rng(0).integers(0, groups.count, (100, 2000))
    z = terms[rows].mean(0) / terms[rows].std(0, ddof=1) * 10
    assert (z > NormalDist().inv_cdf(1 - error)).mean() > simulate.coverage(known, error, 100).allowed


def test_a_drop_that_the_changed_captions_cannot_give_is_refused() -> None:
    with pytest.raises(UsageError, match="out of reach"):
        simulate.pool(0.01, 0.2)


@pytest.mark.parametrize(("share", "error"), [(0.03, 0.1), (0.05, 0.05)])
def test_binomial_coverage(share: float, error: float) -> None:
    found = simulate.binomial_coverage(share, error, 371)
    assert 0 < found.rate <= found.allowed


def test_a_true_claim_is_certified_often_and_all_figures_hold() -> None:
    steps = []
    found = simulate.figures(CASES, simulate.policies(6), 50, lambda: steps.append(1))
    assert [row["policy"] for row in found["coverage"]] == [case.name for case in CASES]
    assert all(row["holds"] for row in (*found["coverage"], *found["power"], found["walk"]))
    assert found["power"][0]["clusters"] == 1000 and found["power"][0]["drop"] == 0.03
    assert len(steps) == found["walk"]["repetitions"] == 50


def test_walk_certifies_no_false_policy_too_often_and_true_ones_often() -> None:
    found = simulate.walk(simulate.policies(6), repetitions=25, count=500)
    assert found["any_false"] <= found["allowed"]
    assert found["some_true"] >= 0.5


def test_smallest_drop_and_the_n_it_needs_belong_together() -> None:
    known = pairs(CASES[1].pool.full, CASES[1].pool.exits, CASES[1].pool.clusters)
    limit = smallest_drop(known, 0.1, 400)
    assert power(known, limit, 0.1, 400) >= 0.8 > power(known, limit / 1.3, 0.1, 400)
    assert clusters_needed(known, limit, 0.1) == pytest.approx(400, rel=0.15)
    assert smallest_drop(known, 0.05, 400) > limit > smallest_drop(known, 0.1, 800)


def test_beyond_what_is_simulated_the_square_root_holds() -> None:
    known = pairs(CASES[1].pool.full, CASES[1].pool.exits, CASES[1].pool.clusters)
    assert 0.72 <= power(known, smallest_drop(known, 0.1, 4000), 0.1, 4000) <= 0.95


def test_a_tune_set_that_shows_nothing() -> None:
    with pytest.raises(UsageError, match="no quality to keep"):
        pairs(np.zeros(4), np.zeros(4), tuple("abcd"))
    assert smallest_drop(pairs(np.full(4, 5.0), np.full(4, 5.0), tuple("abcd")), 0.1, 2) == 1.0


def test_smallest_share() -> None:
    # Nothing changes: (1 − δ)^59 ≤ .05 from δ = .0495 on.
    assert smallest_share(0.0, 0.05, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    # 3 % change: with power .8 at most 13 of 371 are seen.
    limit = smallest_share(0.03, 0.1, 371)
    seen = np.random.default_rng(0).binomial(371, 0.03, 4000)
    passed = np.mean([lower_tail(int(k), 371, limit) <= 0.1 for k in seen])
    assert 0.78 <= passed <= 0.93
