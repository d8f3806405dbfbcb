"""Pareto Testing: many candidates, several claims each, no price for the number of candidates.

Laufer-Goldshtein, Fisch, Barzilay and Jaakkola 2023. On *tune* keep the candidates that no other one beats
in everything, and order them by the larger of their predicted p-values. On *certify* walk in that order. For
one candidate p = max(p_quality, p_latency). A walk from the slowest or the fastest end would stop at once, as
one of the two claims is false there.

Two things are ours. What was chosen on *tune* is tested first, whatever is predicted of the others: the
least of many predicted p-values is often a lucky one. And one failure does not end the walk: see `claim`.

`freeze` needs no data of *certify*, and `certify` asks for it candidate by candidate, by a function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.certificate.binomial import lower_tail
from mue_edge.calibrate.certificate.claim import (
    SHARES,
    Candidate,
    Certificate,
    Claim,
    Conditions,
    Frozen,
    Scope,
    Tested,
    next_level,
    state,
)
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.errors import UsageError


@dataclass(frozen=True)
class HeldOutScores:
    """What a policy did on *certify*, by picture [n].

    cider_d, accuracy: the score at full depth and with exits. consistency: `full` is 1 everywhere, `exits` 1
    where the caption is full depth's and 0 elsewhere. `seconds`: live times, only where latency is tested.
    """

    full: NDArray[np.float64]
    exits: NDArray[np.float64]
    seconds: NDArray[np.float64] | None = None


def predicted_quality_p(scores: HeldOutScores, groups: Clusters, claim: Claim, count: int) -> float:
    """What p_quality *tune* predicts for `count` clusters: normal approximation, good for ordering only."""
    loss = groups.means((1 - claim.max_drop) * scores.full - scores.exits)
    spread = float(loss.std(ddof=1)) if groups.count > 1 else math.inf
    if spread == 0:
        return 0.0 if loss[0] < 0 else 1.0
    return NormalDist().cdf(float(loss.mean()) / spread * math.sqrt(count))


def predicted_latency_p(late: float, claim: Claim, count: int) -> float:
    """What p_latency a share of `late` captions on *tune* predicts."""
    return lower_tail(round(late * count), count, 1 - claim.share)


def pareto_front(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that no other beats in predicted p-values and cost, safest first."""

    def order(c: Candidate) -> tuple[float, float, float, str]:
        return max(c.p_quality, c.p_latency), -c.quality, c.cost, c.name

    front: list[Candidate] = []
    for c in sorted(candidates, key=order):
        if not any(o.p_quality <= c.p_quality and o.p_latency <= c.p_latency and o.cost <= c.cost for o in front):
            front.append(c)
    return tuple(front)


def favourite(fitting: Sequence[Candidate], claim: Claim) -> Candidate:
    """What to choose on *tune* of the candidates that fit the budget: the best in quality of those that are
    predicted to pass the first test of latency, or where none is the likeliest to. A tighter budget never
    chooses a slower one of a front."""
    sure = [c for c in fitting if c.p_latency <= claim.error * SHARES[0]]
    if sure:
        return max(sure, key=lambda c: (c.quality, -c.cost))
    return min(fitting, key=lambda c: (c.p_latency, c.cost))


def freeze(
    candidates: Sequence[Candidate],
    claim: Claim,
    scope: Scope,
    conditions: Conditions | None = None,
    smallest_drop: float | None = None,
    primary: str = "",
    most: int | None = None,
) -> Frozen:
    """Fix everything: the candidate named `primary`, if any, then the others' front, `most` in all.

    Latency is tested only if there is a budget and the `conditions` are live.
    """
    names = [c.name for c in candidates]
    if not names or len(set(names)) < len(names) or "" in names:
        raise UsageError(f"candidates need distinct names, not {', '.join(names) or 'none'}")
    for c in candidates:
        if not all(map(math.isfinite, (c.p_quality, c.p_latency, c.cost, c.quality))):
            raise UsageError(f"candidate {c.name!r} has figures that are no numbers")
        if c.policy.get("plan", scope.plan) != scope.plan:
            raise UsageError(f"candidate {c.name!r} belongs to plan {c.policy['plan']}, not {scope.plan}")
    frozen = Frozen(claim, scope, (), conditions, smallest_drop)
    listed = candidates if frozen.tests_latency else [replace(c, p_latency=0.0) for c in candidates]
    first = tuple(c for c in listed if c.name == primary)
    if primary and not first:
        raise UsageError(f"the primary choice {primary!r} is none of {', '.join(names)}")
    rest = pareto_front([c for c in listed if c.name != primary])
    return replace(frozen, candidates=(first + rest)[:most])


def certify(
    frozen: Frozen,
    clusters: Sequence[str],
    measure: Callable[[Candidate], HeldOutScores],
    criterion: Callable[[Candidate], float],
) -> Certificate:
    """Open *certify*: walk, and choose the certified one of smallest `criterion`.

    `clusters` names the cluster of each picture; `measure` runs (or replays) one candidate on them, and is
    asked only for the candidates that the walk reaches.
    """
    claim, groups = frozen.claim, Clusters(clusters, frozen.claim.seed)
    tested: list[Tested] = []
    for candidate in frozen.candidates:
        level = next_level(claim.error, tested, lone=len(frozen.candidates) == 1)
        if level == 0:
            break
        tested.append(_test(candidate.name, level, measure(candidate), frozen, groups))
    passed = [c for c, t in zip(frozen.candidates, tested) if t.passed]
    best = min(passed, key=criterion, default=None)
    name, policy = (best.name, best.policy) if best else ("", {})
    scope, conditions, smallest = frozen.scope, frozen.conditions, frozen.smallest_drop
    sizes, steps, fingerprint = (groups.count, groups.pictures), tuple(tested), frozen.fingerprint()
    certificate = Certificate(claim, scope, conditions, *sizes, steps, name, policy, smallest, fingerprint)
    return replace(certificate, statement=state(certificate))


def _test(name: str, level: float, scores: HeldOutScores, frozen: Frozen, groups: Clusters) -> Tested:
    claim = frozen.claim
    if claim.loss in losses.TOPS:
        top = losses.TOPS[claim.loss]
        p = losses.drop_p_value(scores.full, scores.exits, claim.max_drop, level, groups, top)
    else:
        if not (np.isin(scores.exits, (0, 1)).all() and (scores.full == 1).all()):
            raise UsageError("consistency is 1 where the caption is full depth's, and 0 elsewhere")
        p, _ = losses.share_p_value(scores.exits == 0, claim.max_drop, groups)
    tested = Tested(name, level, p, losses.observed_drop(scores.full, scores.exits, groups))
    if not frozen.tests_latency:
        return tested
    if scores.seconds is None or not (scores.seconds > 0).all() or scores.seconds.shape != scores.full.shape:
        raise UsageError(f"a latency claim needs the live seconds of every picture for {name!r}")
    late = scores.seconds > (claim.budget or 0.0)
    p, count = losses.share_p_value(late, round(1 - claim.share, 12), groups)
    return replace(tested, p_latency=p, late=count, timed=groups.count)
