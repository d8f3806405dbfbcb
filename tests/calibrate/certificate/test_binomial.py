"""The exact tail: against exact fractions, the fact that limits invert it, and counts that are known."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mue_edge.calibrate.certificate.binomial import lower_tail, upper_limit
from mue_edge.errors import UsageError


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.data())
def test_tail_equals_the_exact_sum(trials: int, data: st.DataObject) -> None:
    count, tenths = data.draw(st.integers(0, trials)), data.draw(st.integers(0, 40))
    q = Fraction(tenths, 40)
    exact = sum(comb(trials, k) * q**k * (1 - q) ** (trials - k) for k in range(count + 1))
    assert lower_tail(count, trials, tenths / 40) == pytest.approx(float(exact), rel=1e-9, abs=1e-12)


def test_large_counts_neither_overflow_nor_vanish() -> None:
    assert lower_tail(5000, 100_000, 0.05) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("trials", "share", "error", "allowed"),
    [(371, 0.05, 0.05, 11), (124, 0.05, 0.05, 2), (59, 0.05, 0.05, 0), (58, 0.05, 0.05, -1),
     (1000, 0.01, 0.05, 4), (1000, 0.03, 0.05, 20), (371, 0.03, 0.05, 5)],
)  # fmt: skip
def test_allowed_counts(trials: int, share: float, error: float, allowed: int) -> None:
    """The largest count that refutes the share; −1: none does."""
    assert sum(lower_tail(count, trials, share) <= error for count in range(allowed + 3)) == allowed + 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.data())
def test_limit_inverts_the_tail(trials: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, trials - 1))
    limit = upper_limit(count, trials, 0.1)
    assert lower_tail(count, trials, limit) <= 0.1
    assert lower_tail(count, trials, limit - 1e-6) > 0.1
    assert limit > count / trials


def test_nonsense_is_refused() -> None:
    for count, trials, share in ((3, 2, 0.1), (-1, 2, 0.1), (0, 2, 1.1), (0, 2, float("nan"))):
        with pytest.raises(UsageError):
            lower_tail(count, trials, share)
