"""Before searching: what n clusters can show, and how many a claimed drop needs. Simulated, seeded, quick.

*Power*: how often a policy that loses nothing is certified. The spread of a paired loss is taken from a pair
of scores on *tune* (full depth and any policy that exits much): its clusters are drawn with replacement, the
mean difference moved to zero, and the very test of the certificate is run on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.certificate.betting import p_values
from mue_edge.calibrate.certificate.binomial import upper_limit
from mue_edge.calibrate.certificate.losses import HALF
from mue_edge.calibrate.metrics.cider import TOP
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.errors import UsageError

POWER = 0.8
REPETITIONS = 200
# Beyond this many clusters the limit follows 1/√n closely enough (a test compares) and is not simulated.
SIMULATED = 2000
# Where a search starts: so many standard errors lie between the claimed drop and the true one, roughly.
_DISTANCE = 2.8
_PRECISION = 0.02  # relative, of what is searched for


@dataclass(frozen=True)
class PairedScores:
    """Cluster means of the score at full depth [C], and of what a policy loses [C], its mean moved to 0; the
    highest score."""

    full: NDArray[np.float64]
    loss: NDArray[np.float64]
    top: float = TOP


def pairs(
    full: NDArray[np.float64], exits: NDArray[np.float64], clusters: Sequence[str], top: float = TOP
) -> PairedScores:
    """From scores by picture, at most `top`. Raises UsageError where full depth scores nothing."""
    groups = Clusters(clusters)
    means = groups.means(full)
    if not means.mean() > 0:
        raise UsageError("full depth scores 0 everywhere: there is no quality to keep; check the references")
    loss = means - groups.means(exits)
    return PairedScores(means, loss - loss.mean(), top)


def power(pairs: PairedScores, max_drop: float, error: float, count: int, repetitions: int = REPETITIONS) -> float:
    """How often a policy of true drop 0 is certified for `max_drop` on `count` clusters."""
    rows = np.random.default_rng(0).integers(0, len(pairs.full), (count, repetitions))
    terms = (pairs.top + max_drop * pairs.full - pairs.loss) / (2 * pairs.top)
    return float((p_values(np.clip(terms, 0, 1)[rows], HALF, error) <= error).mean())


def smallest_drop(pairs: PairedScores, error: float, count: int) -> float:
    """The smallest drop that `count` clusters certify with power .8 when nothing is lost; ≤ 1."""
    simulated = min(count, SIMULATED)
    guess = _DISTANCE * _noise(pairs) / math.sqrt(simulated)
    limit = _smallest(lambda drop: power(pairs, drop, error, simulated) >= POWER, guess, 1.0)
    return limit * math.sqrt(simulated / count)


def clusters_needed(pairs: PairedScores, max_drop: float, error: float) -> int:
    """How many clusters certify `max_drop` with power .8 when nothing is lost, to some 5 %."""
    guess = (_DISTANCE * _noise(pairs) / max_drop) ** 2
    if guess < SIMULATED:

        def passes(count: float) -> bool:
            return power(pairs, max_drop, error, math.ceil(count)) >= POWER

        count = math.ceil(_smallest(passes, guess, SIMULATED))
        if count < SIMULATED:
            return count
    return math.ceil(SIMULATED * (smallest_drop(pairs, error, SIMULATED) / max_drop) ** 2)


def _noise(pairs: PairedScores) -> float:
    """Standard deviation of a cluster's relative loss."""
    return max(float(pairs.loss.std() / pairs.full.mean()), 1e-6)


def _smallest(passes: Callable[[float], bool], guess: float, most: float) -> float:
    """The smallest value that passes, or `most`; searched on a log scale from a guess."""
    high = min(guess, most)
    while high < most and not passes(high):
        high = min(1.5 * high, most)
    low = high / 1.5
    while passes(low) and low > 1e-6:
        high, low = low, low / 1.5
    while high / low > 1 + _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def smallest_share(changes: float, error: float, count: int) -> float:
    """For consistency: the smallest share certified with power .8 when truly `changes` of captions change."""
    changed = 0
    tail = term = (1 - changes) ** count
    while tail < POWER and changed < count:
        changed += 1
        term *= (count - changed + 1) / changed * changes / (1 - changes)
        tail += term
    return upper_limit(changed, count, error) if changed < count else 1.0
