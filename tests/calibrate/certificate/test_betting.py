"""The betting test: a small case by hand, its promise under the hypothesis, and that it proves something."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mue_edge.calibrate.certificate.betting import BOLDEST, p_values
from mue_edge.errors import UsageError


def p_value(terms: NDArray[np.float64], mean: float, error: float) -> float:
    return float(p_values(terms[:, None], mean, error)[0])


def test_two_terms_by_hand() -> None:
    # ε = 1/2: first stake sqrt(2 log 2 / 2 / .25), cut at .9 / m; then what is missing, over one term.
    first = min(math.sqrt(2 * math.log(2) / 2 / 0.25), BOLDEST / 0.5)
    capital = 1 + first * 0.1
    variance = (0.25 + (0.6 - 0.55) ** 2) / 2
    second = min(math.sqrt(2 * math.log(2 / capital) / variance), BOLDEST / 0.5)
    assert p_value(np.array([0.6, 0.7]), 0.5, 0.5) == pytest.approx(1 / (capital * (1 + second * 0.2)))
    assert p_value(np.array([0.6, 0.3]), 0.5, 0.5) == pytest.approx(1 / capital)
    assert p_value(np.array([0.1, 0.2]), 0.5, 0.5) == 1.0


@pytest.mark.parametrize("error", [0.05, 0.1])
@pytest.mark.parametrize("rare", [0.5, 0.05, 0.002])
def test_a_true_hypothesis_is_seldom_refused(error: float, rare: float) -> None:
    # Two points whose mean is exactly m: the hardest shapes are rare large losses.
    rng = np.random.default_rng(0)
    low, high = 0.5 - 0.4 * (1 - rare), 0.5 + 0.4 * rare
    terms = np.where(rng.random((150, 2000)) < rare, low, high)
    rate = float((p_values(terms, 0.5, error) <= error).mean())
    assert rate <= error + 2 * math.sqrt(error * (1 - error) / 2000)


def test_p_is_valid_at_other_levels_than_it_was_aimed_at() -> None:
    rng = np.random.default_rng(1)
    p = p_values(rng.random((200, 2000)), 0.5, 0.1)
    for level in (0.02, 0.05, 0.2, 0.5):
        assert (p <= level).mean() <= level + 2 * math.sqrt(level * (1 - level) / 2000)


def test_a_small_true_difference_is_proved_and_a_column_stands_alone() -> None:
    rng = np.random.default_rng(2)
    terms = np.clip(0.5075 + 0.05 * rng.standard_normal((500, 300)), 0, 1)
    p = p_values(terms, 0.5, 0.1)
    # A normal test of z = .0075 · √500 / .05 = 3.35 has power .98.
    assert (p <= 0.1).mean() > 0.88
    assert p_value(terms[:, 7], 0.5, 0.1) == p[7]


def test_terms_out_of_range_are_refused() -> None:
    good = np.full((3, 1), 0.5)
    for terms, mean, error in (
        (good * 3, 0.5, 0.1),
        (-good, 0.5, 0.1),
        (good * np.nan, 0.5, 0.1),
        (good[:0], 0.5, 0.1),
        (good, 1.0, 0.1),
        (good, 0.5, 0.0),
    ):
        with pytest.raises(UsageError):
            p_values(terms, mean, error)
