"""Before searching: what n clusters can show, and how many an asked drop needs. Simulated, seeded, quick.

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
# Where a search starts: so many standard errors lie between the asked drop and the true one, roughly.
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


def power(
    known: PairedScores,
    max_drop: float,
    error: float,
    count: int,
    seed: int = 0,
    repetitions: int = REPETITIONS,
) -> float:
    """How often a policy of true drop 0 is certified for `max_drop` on `count` clusters."""
    rows = np.random.default_rng(seed).integers(0, len(known.full), (count, repetitions))
    terms = (known.top + max_drop * known.full - known.loss) / (2 * known.top)
    return float((p_values(np.clip(terms, 0, 1)[rows], HALF, error) <= error).mean())


def smallest_drop(known: PairedScores, error: float, count: int, seed: int = 0) -> float:
    """The smallest drop that `count` clusters certify with power .8 when nothing is lost; ≤ 1."""
    simulated = min(count, SIMULATED)
    guess = _DISTANCE * _noise(known) / math.sqrt(simulated)
    limit = _smallest(lambda drop: power(known, drop, error, simulated, seed) >= POWER, guess, 1.0)
    return limit * math.sqrt(simulated / count)


def clusters_needed(known: PairedScores, max_drop: float, error: float, seed: int = 0) -> int:
    """How many clusters certify `max_drop` with power .8 when nothing is lost, to some 5 %."""
    guess = (_DISTANCE * _noise(known) / max_drop) ** 2
    if guess < SIMULATED:
        enough = lambda count: power(known, max_drop, error, math.ceil(count), seed) >= POWER
        count = math.ceil(_smallest(enough, guess, SIMULATED))
        if count < SIMULATED:
            return count
    return math.ceil(SIMULATED * (smallest_drop(known, error, SIMULATED, seed) / max_drop) ** 2)


def _noise(known: PairedScores) -> float:
    """Standard deviation of a cluster's relative loss."""
    return max(float(known.loss.std() / known.full.mean()), 1e-6)


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
    seen = 0
    tail = term = (1 - changes) ** count
    while tail < POWER and seen < count:
        seen += 1
        term *= (count - seen + 1) / seen * changes / (1 - changes)
        tail += term
    return upper_limit(seen, count, error) if seen < count else 1.0
