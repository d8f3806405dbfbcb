"""Clusters and losses: ranges, weights, and that the order in the file does not matter."""

from __future__ import annotations

import numpy as np
import pytest

from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.errors import UsageError


def test_each_cluster_weighs_the_same() -> None:
    groups = Clusters(["a", "b", "a", "a"])
    means = groups.means(np.array([1.0, 10.0, 2.0, 3.0]))
    assert sorted(means) == [2.0, 10.0]
    assert (groups.count, groups.pictures) == (2, 4)
    full, exits = np.array([4.0, 10.0, 4.0, 4.0]), np.array([1.0, 10.0, 4.0, 4.0])
    # Means over clusters: 7 at full depth, (3 + 10) / 2 with exits.
    assert losses.observed_drop(full, exits, groups) == pytest.approx(1 / 14)


def test_order_is_random_and_fixed_by_seed_and_names() -> None:
    names = [str(i // 3) for i in range(90)]
    values = np.arange(90.0)
    shuffled = np.random.default_rng(3).permutation(90)
    means = Clusters(names, 5).means(values)
    again = Clusters([names[i] for i in shuffled], 5).means(values[shuffled])
    assert (means == again).all()
    assert (means != Clusters(names, 6).means(values)).any()
    assert (means != np.sort(means)).any()
    assert set(means) == {3 * i + 1.0 for i in range(30)}


def test_one_picture_of_each_cluster_is_drawn_evenly() -> None:
    names = ["a", "b", "b", "b"]
    drawn = [Clusters(names, seed).drawn() for seed in range(600)]
    assert all(sorted(names[i] for i in rows) == ["a", "b"] for rows in drawn)
    counts = np.bincount(np.concatenate(drawn))
    assert counts[0] == 600
    assert min(counts[1:]) > 150


def test_terms_span_their_range() -> None:
    groups = Clusters(["a", "b", "c", "d"])
    terms = losses.terms(np.array([10.0, 0.0, 10.0, 5.0]), np.array([0.0, 10.0, 10.0, 4.5]), 0.1, groups)
    # Worst: δ/2. Best: 1. No change at 10: 1/2 + δ/2. A drop of exactly δ: 1/2.
    assert sorted(terms) == pytest.approx([0.05, 0.5, 0.55, 1.0])


@pytest.mark.parametrize("bad", [11.0, -1.0, float("nan")])
def test_impossible_scores_are_refused(bad: float) -> None:
    fine, groups = np.array([5.0, 5.0]), Clusters(["a", "b"])
    with pytest.raises(UsageError, match="the policy is not within 0 … 10"):
        losses.terms(fine, np.array([5.0, bad]), 0.03, groups)
    with pytest.raises(UsageError, match="full depth"):
        losses.terms(np.array([5.0, bad]), fine, 0.03, groups)


def test_misuse_is_named() -> None:
    with pytest.raises(UsageError, match="no pictures"):
        Clusters([])
    with pytest.raises(UsageError, match="for 2 pictures"):
        Clusters(["a", "b"]).means(np.zeros(3))
    with pytest.raises(UsageError, match="no quality to keep"):
        losses.observed_drop(np.zeros(2), np.zeros(2), Clusters(["a", "b"]))


def test_accuracy_has_its_own_range() -> None:
    groups = Clusters(["a", "b", "c"])
    terms = losses.terms(np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]), 0.1, groups, 1.0)
    # Worst: δ/2. Best: 1. Right before and after: 1/2 + δ/2.
    assert sorted(terms) == pytest.approx([0.05, 0.55, 1.0])
    with pytest.raises(UsageError, match="within 0 … 1 "):
        losses.terms(np.array([2.0]), np.array([1.0]), 0.1, Clusters(["a"]), 1.0)


def test_accuracy_that_is_kept_is_shown_and_a_loss_is_not() -> None:
    rng, groups = np.random.default_rng(0), Clusters([str(i) for i in range(800)])
    full = (rng.random(800) < 0.7).astype(float)
    worse = np.where(rng.random(800) < 0.15, 0.0, full)
    top = losses.TOPS[losses.ACCURACY]
    assert losses.drop_p_value(full, full, 0.03, 0.1, groups, top) < 0.01
    assert losses.drop_p_value(full, worse, 0.03, 0.1, groups, top) > 0.1
