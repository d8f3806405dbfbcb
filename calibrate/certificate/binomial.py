"""The exact binomial tail and its confidence limit (Clopper and Pearson 1934). Standard library only."""

from __future__ import annotations

import math

from mue_edge.errors import UsageError


def lower_tail(count: int, trials: int, share: float) -> float:
    """P(at most `count` of `trials`) when each happens with probability `share`.

    As a p-value it is for the hypothesis that the true share is `share` or more.
    """
    if not 0 <= count <= trials or not 0 <= share <= 1:
        raise UsageError(f"no binomial tail for {count} of {trials} at a share of {share}")
    if count == trials or share == 0:
        return 1.0
    if share == 1:
        return 0.0
    hit, miss = math.log(share), math.log1p(-share)
    whole = math.lgamma(trials + 1)
    terms = (
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * hit + (trials - k) * miss)
        for k in range(count + 1)
    )
    return min(1.0, math.fsum(terms))


def upper_limit(count: int, trials: int, error: float) -> float:
    """The largest share that `count` of `trials` does not refute: a limit that is wrong with rate `error`."""
    low, high = count / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if lower_tail(count, trials, middle) <= error else (middle, high)
    return high
