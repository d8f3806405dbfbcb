"""Caption metrics on cases worked out by hand."""

from __future__ import annotations

import math

import pytest

from mue_edge.calibrate.quality import clustered_mean, measure, rouge_l, token_f1


def test_token_f1_counts_words_as_a_bag() -> None:
    assert token_f1("a b", "b a") == 1.0
    assert token_f1("a a b", "a c") == pytest.approx(2 * 1 / 5)
    assert token_f1("", "a") == 0.0
    assert token_f1("x", "a") == 0.0


def test_rouge_l_keeps_the_order() -> None:
    assert rouge_l("a b c", "a b c") == pytest.approx(1.0)
    # Longest common subsequence of "b a" and "a b" has one word: P = R = 1/2.
    assert rouge_l("b a", "a b") == pytest.approx(0.5)
    # "a x b" against "a b": P = 2/3, R = 1, β² = 1.44.
    assert rouge_l("a x b", "a b") == pytest.approx(2.44 * (2 / 3) / (1 + 1.44 * 2 / 3))
    assert rouge_l("", "a") == 0.0


def test_standard_errors_count_clusters() -> None:
    values = [1.0, 1.0, 0.0, 0.0]
    alone = clustered_mean(values, ["a", "b", "c", "d"])
    assert alone.mean == 0.5
    assert alone.standard_error == pytest.approx(math.sqrt(4 / 3 * 4 * 0.25) / 4)
    together = clustered_mean(values, ["a", "a", "b", "b"])
    assert together.standard_error == pytest.approx(math.sqrt(2 * 2.0) / 4)
    assert math.isnan(clustered_mean([1.0], ["a"]).standard_error)


def test_measure() -> None:
    found = measure(["cat", "red dog"], ["cat", "dog"], ["x", "x"])
    assert (found.samples, found.clusters) == (2, 1)
    assert found.metrics["exact_match"].mean == 0.5
    assert found.metrics["token_f1"].mean == pytest.approx((1 + 2 / 3) / 2)
