"""A test of a bounded mean by betting (Waudby-Smith and Ramdas 2024), sharp for a known number of terms.

Terms y_1 … y_n in [0, 1], in random order, with hypothesis E[y] ≤ m. A player starts with capital 1 and
before each term stakes λ_i ≥ 0 from what was seen so far: K_i = K_{i−1} (1 + λ_i (y_i − m)). Under the
hypothesis the expectation of K never grows, so by Ville's inequality P(max K ≥ 1/ε) ≤ ε whatever the bets
and whatever the distribution: 1 / max K is a p-value at every n. The bets only decide how often a true
claim is proved. Those of Voráček and Orabona 2025 ("STaR-Bets") look at the capital still missing and the
terms still to come, λ = sqrt(2 log(1/(ε K)) / (terms left · variance)); with the constant goal log(1/ε)
and all n in the root they are Waudby-Smith and Ramdas' own, which go on here once the goal is reached.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mue_edge.errors import UsageError

# The largest share of the capital that a single worst term may take.
BOLDEST = 0.9


def p_values(terms: NDArray[np.float64], mean: float, error: float) -> NDArray[np.float64]:
    """p-value of E[y] ≤ mean for each column of terms [n, repetitions] → [repetitions].

    `error` (ε) aims the bets: any is valid, and the test at level ε is the sharpest.
    """
    if terms.ndim != 2 or not terms.size or not ((terms >= 0) & (terms <= 1)).all():
        raise UsageError("a betting test needs terms [n, repetitions] within 0 … 1")
    if not 0 < mean < 1 or not 0 < error < 1:
        raise UsageError(f"a betting test needs 0 < mean, error < 1, not {mean} and {error}")
    n, goal = len(terms), -math.log(error)
    capital, best = np.zeros(terms.shape[1]), np.zeros(terms.shape[1])  # logarithms
    # One imagined term at the hypothesis, with the largest variance there is, as the authors take it.
    total, squares = np.full_like(capital, mean), np.full_like(capital, 0.25)
    for i, y in enumerate(terms):
        variance = squares / (i + 1)
        missing = np.where(best < goal, (goal - capital) / (n - i), goal / n)
        stake = np.minimum(np.sqrt(2 * missing / variance), BOLDEST / mean)
        capital += np.log1p(stake * (y - mean))
        np.maximum(best, capital, out=best)
        total += y
        squares += (y - total / (i + 2)) ** 2
    smallest: NDArray[np.float64] = np.exp(-best)
    return smallest
