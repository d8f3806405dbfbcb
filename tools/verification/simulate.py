"""Is a certificate right as often as it says, and does it say enough?

A *pool* of pictures is taken as the truth: clusters are drawn from it with replacement, so a policy's true
drop is the pool's. Coverage: δ is placed exactly at that drop, where certifying is wrong; the rate must not
exceed ε. Power: the policy's mean loss is moved to 0, and a true claim must be certified often. The walk: a
front of policies with live times, of which some are false by quality, some by latency.

Pools are simulated here (`cases`, `policies`); `certificate` takes a model's real scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.certificate import pareto_testing
from mue_edge.calibrate.certificate.betting import p_values
from mue_edge.calibrate.certificate.binomial import lower_tail
from mue_edge.calibrate.certificate.claim import LIVE, Candidate, Claim, Conditions, Scope
from mue_edge.calibrate.certificate.losses import HALF, observed_drop
from mue_edge.calibrate.certificate.pareto_testing import HeldOutScores
from mue_edge.calibrate.certificate.power import pairs, power
from mue_edge.calibrate.metrics.cider import TOP
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.errors import UsageError

Scores = NDArray[np.float64]
REPETITIONS = 2000
CLUSTERS = 1000  # of a certifying set; fewer could not certify 2 % whatever they show
# (wished δ, ε): three places to test at.
PLACES = ((0.02, 0.05), (0.03, 0.1), (0.05, 0.1))
CHANGED = (0.06, 0.1, 0.2)  # shares of clusters with a changed caption, of the simulated policies there
# The power that is promised: (δ, ε), how often at least at a true drop of 0.
POWER_AT, POWER = (0.03, 0.1), 0.9


@dataclass(frozen=True)
class Pool:
    """Scores of one policy and of full depth, by picture [n], and each picture's cluster."""

    full: Scores
    exits: Scores
    clusters: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A policy by name, and the ε at which its true drop is claimed not to be reached."""

    name: str
    pool: Pool
    error: float


@dataclass(frozen=True)
class Coverage:
    """How often a claim that is (just) false was certified; `allowed` is ε and two standard errors."""

    drop: float
    error: float
    clusters: int
    repetitions: int
    rate: float

    @property
    def allowed(self) -> float:
        return self.error + 2 * math.sqrt(self.error * (1 - self.error) / self.repetitions)


def pool(changed: float, drop: float, clusters: int = 3000, seed: int = 0) -> Pool:
    """Scores that look like CIDEr-D: many 10s, a long low part, most captions unchanged, a few much worse.

    Clusters hold 1 to 4 pictures that share a quality and a tendency to change. The changed captions' scores
    are mixed with full depth's so that the true drop is about `drop`.
    """
    rng = np.random.default_rng(seed)
    names = np.repeat(np.arange(clusters), rng.integers(1, 5, clusters))

    def score() -> Scores:
        return np.minimum(TOP, rng.gamma(1.2, 2.2, len(names)))

    shared = rng.random(clusters)[names]
    full = np.where((shared < 0.3) & (rng.random(len(names)) < 0.9), TOP, score())
    moved = (rng.random(clusters)[names] < changed) & (rng.random(len(names)) < 0.7)
    worse, better = np.minimum(score(), full), np.maximum(score(), full)
    gain, loss = (better - full)[moved].sum(), (full - worse)[moved].sum()
    share = (drop * full.sum() + gain) / (loss + gain)
    if not 0 <= share <= 1:
        raise UsageError(f"a drop of {drop} is out of reach when {changed} of the clusters change")
    exits = np.where(moved, np.where(rng.random(len(names)) < share, worse, better), full)
    return Pool(full, exits, tuple(map(str, names)))


def coverage(known: Pool, error: float, count: int, repetitions: int = REPETITIONS, seed: int = 0) -> Coverage:
    """δ at the pool's true drop (of a policy that loses something): the rate of false certificates."""
    groups = Clusters(known.clusters)
    full, exits = groups.means(known.full), groups.means(known.exits)
    drop = float(1 - exits.mean() / full.mean())
    terms = (TOP - (1 - drop) * full + exits) / (2 * TOP)
    rows = np.random.default_rng(seed).integers(0, groups.count, (count, repetitions))
    rate = float((p_values(terms[rows], HALF, error) <= error).mean())
    return Coverage(drop, error, count, repetitions, rate)


def binomial_coverage(share: float, error: float, count: int, repetitions: int = REPETITIONS) -> Coverage:
    """Captions that change (or come late) with exactly the share that is claimed not to be reached."""
    seen = np.random.default_rng(0).binomial(count, share, repetitions)
    rate = float(np.mean([lower_tail(int(k), count, share) <= error for k in seen]))
    return Coverage(share, error, count, repetitions, rate)


def cases() -> list[Case]:
    """A simulated policy for each of PLACES."""
    return [
        Case(f"{changed:.0%} of clusters change", pool(changed, drop), error)
        for changed, (drop, error) in zip(CHANGED, PLACES, strict=True)
    ]


def policies(count: int = 12) -> list[Pool]:
    """Simulated ones from slow and good to fast and bad, over the same clusters."""
    last = count * 2 // 3
    return [pool(0.12 + 0.02 * i, 0.05 * (i / last) ** 2, 1500) for i in range(count)]


def walk(
    pools: Sequence[Pool],
    repetitions: int = REPETITIONS,
    count: int = CLUSTERS,
    seed: int = 0,
    step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Whole runs of Pareto Testing: how often any false policy is certified, and how often some true one.

    `pools` are policies over the same pictures, from slow to fast; their late captions are simulated. The
    budget stands exactly at the truth of one of them, and δ at that of the middle one, by drop, of those that
    are faster: these two are false by nothing, the hardest case.
    """
    rng = np.random.default_rng(seed)
    whole = Clusters(pools[0].clusters)
    drops = [observed_drop(p.full, p.exits, whole) for p in pools]
    slow = len(pools) // 3
    faster = sorted(range(slow + 1, len(pools)), key=drops.__getitem__)
    bad = faster[(len(faster) - 1) // 2]
    late = [min(1.0, 0.05 * 0.5 ** (i - slow)) for i in range(len(pools))]
    claim = Claim(max_drop=drops[bad], confidence=0.9, budget=1.0, share=0.95)
    true = {str(i) for i in faster if drops[i] < claim.max_drop}
    scope, live = Scope("a simulated pool", "", "", "", ""), Conditions(LIVE, "", "", 1, "", "")
    owners = np.unique(pools[0].clusters, return_inverse=True)[1]
    members = [np.flatnonzero(owners == c) for c in range(whole.count)]
    wrong = right = 0

    def held(i: int, rows: NDArray[np.int64]) -> HeldOutScores:
        seconds = np.where(rng.random(len(rows)) < late[i], 2.0, 0.5)
        return HeldOutScores(pools[i].full[rows], pools[i].exits[rows], seconds)

    def measure(candidate: Candidate, rows: NDArray[np.int64]) -> HeldOutScores:
        return held(int(candidate.name), rows)

    for _ in range(repetitions):
        tune, certify = (draw(rng, members, count) for _ in range(2))
        groups = Clusters(tune[1])
        candidates: list[Candidate] = []
        for i in range(len(pools)):
            seen = held(i, tune[0])
            p_quality = pareto_testing.predicted_quality_p(seen, groups, claim, count)
            p_latency = pareto_testing.predicted_latency_p(late[i], claim, count)
            quality = float(groups.means(seen.exits).mean())
            candidates.append(Candidate(str(i), {}, p_quality, 1 - i / len(pools), quality, p_latency))
        fitting = [c for i, c in enumerate(candidates) if late[i] <= 1 - claim.share]
        primary = pareto_testing.favourite(fitting, claim).name
        seeded = replace(claim, seed=int(rng.integers(1 << 30)))
        found = pareto_testing.certify(
            pareto_testing.freeze(candidates, seeded, scope, live, primary=primary),
            certify[1],
            partial(measure, rows=certify[0]),
            lambda c: c.cost,
        )
        passed = {t.name for t in found.certified}
        wrong += bool(passed - true)
        right += bool(passed & true)
        step()
    allowed = claim.error + 2 * math.sqrt(claim.error * (1 - claim.error) / repetitions)
    return {
        "policies": len(pools), "drop": claim.max_drop, "error": claim.error, "clusters": count,
        "repetitions": repetitions, "any_false": wrong / repetitions, "some_true": right / repetitions,
        "allowed": allowed, "holds": wrong / repetitions <= allowed,
    }  # fmt: skip


def draw(
    rng: np.random.Generator, members: Sequence[NDArray[np.int64]], count: int
) -> tuple[NDArray[np.int64], list[str]]:
    """`count` clusters with replacement: rows of the pool, and names (drawn twice, it counts as two)."""
    drawn = [members[c] for c in rng.integers(0, len(members), count)]
    return np.concatenate(drawn), [str(j) for j, rows in enumerate(drawn) for _ in rows]


def figures(
    asked: Sequence[Case],
    pools: Sequence[Pool],
    repetitions: int = REPETITIONS,
    step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Coverage and power of each case, and the walk over `pools`; `step` is called once a walk."""
    drop, error = POWER_AT
    found: dict[str, Any] = {"coverage": [], "power": []}
    for one in asked:
        known = pairs(one.pool.full, one.pool.exits, one.pool.clusters)
        rate = power(known, drop, error, CLUSTERS, repetitions=repetitions)
        found["coverage"].append({"policy": one.name} | record(coverage(one.pool, one.error, CLUSTERS, repetitions)))
        found["power"].append(
            {
                "policy": one.name,
                "drop": drop,
                "error": error,
                "clusters": CLUSTERS,
                "repetitions": repetitions,
                "rate": rate,
                "holds": rate >= POWER,
            }
        )
    return found | {"walk": walk(pools, repetitions, step=step)}


def record(found: Coverage) -> dict[str, Any]:
    """For evidence/certificate.json."""
    return asdict(found) | {"allowed": found.allowed, "holds": found.rate <= found.allowed}
