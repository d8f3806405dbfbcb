"""Caption metrics on cases worked out by hand."""

from __future__ import annotations

import pytest

from mue_edge.calibrate.metrics.quality import rouge_l, summary, tallies, token_f1


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


def test_the_best_reference_counts() -> None:
    found = tallies(["cat", "red dog"], [("cat",), ("dog", "a red dog")])
    quality = summary(found, ["x", "x"])
    assert (quality.samples, quality.clusters) == (2, 1)
    assert quality.metrics["exact_match"].mean == 0.5
    assert quality.metrics["token_f1"].mean == pytest.approx((1 + 4 / 5) / 2)


def test_other_scores_and_levels() -> None:
    found = tallies(["a", "b", "c"], [("a",)] * 3, {"first": lambda a, b: float(a < b)})
    assert list(found) == ["first"]
    narrow, wide = (summary(found, list("xyz"), level).metrics["first"] for level in (0.5, 0.95))
    assert narrow.mean == wide.mean == 0.0
    scores = tallies(["a", "b", "c", "a"], [("a",)] * 4)
    narrow, wide = (summary(scores, list("wxyz"), level).metrics["exact_match"] for level in (0.5, 0.95))
    assert wide.low < narrow.low < narrow.high < wide.high
