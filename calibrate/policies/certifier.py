"""Runs policies on *certify* when the walk asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.certificate.binomial import upper_limit
from mue_edge.calibrate.certificate.claim import LIVE, Candidate, Claim, Conditions
from mue_edge.calibrate.certificate.pareto_testing import HeldOutScores
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome
from mue_edge.sessions.captioner import FULL

# Drops that an upper bound is sought among, from the largest.
_DROPS = tuple(i / 1000 for i in (*range(990, 99, -10), *range(99, 0, -1)))


@dataclass(frozen=True)
class Certifier:
    """Runs policies on *certify* when the walk asks for them, and keeps their outcomes by name."""

    evaluator: PolicyEvaluator
    certify: Samples
    conditions: Conditions
    claim: Claim
    tuned: Mapping[str, PolicyOutcome]  # the candidates on *tune*
    outcomes: dict[str, PolicyOutcome] = field(default_factory=dict)

    def outcome(self, name: str) -> PolicyOutcome:
        """A policy on *certify*."""
        if name not in self.outcomes:
            both = [FULL, self.tuned[name].policy]
            outcomes = self.evaluator.evaluate(both, self.certify, f"certify: {name}")
            self.outcomes.update({outcome.policy.name: outcome for outcome in outcomes})
        return self.outcomes[name]

    def measure(self, candidate: Candidate) -> HeldOutScores:
        """What the walk asks for; times are live ones of one picture a cluster (of the others: none)."""
        exits, full = self.outcome(candidate.name), self.outcome(FULL.name)
        if self.conditions.kind != LIVE or self.claim.budget is None:
            return HeldOutScores(full.scores, exits.scores)
        rows = Clusters(self.certify.clusters, self.claim.seed).drawn()
        samples = [self.certify.samples[i] for i in rows.tolist()]
        times = self.evaluator.live_seconds([exits.policy], samples, f"live: {candidate.name}")
        seconds = np.full(len(full.scores), float(times.max()))
        seconds[rows] = times[0]
        return HeldOutScores(full.scores, exits.scores, seconds)

    def drop_bound(self, name: str) -> float | None:
        """The smallest drop that *certify* refutes of a policy that was chosen before; None: none.

        Valid for one policy: all drops from it on upwards are refuted at the claim's level.
        """
        full, exits = self.outcome(FULL.name), self.outcome(name)
        clusters = Clusters(self.certify.clusters, self.claim.seed)
        if self.claim.loss == losses.CONSISTENCY:
            count = int((exits.scores == 0)[clusters.drawn()].sum())
            return upper_limit(count, clusters.count, self.claim.error)
        top, smallest = losses.TOPS[self.claim.loss], None
        for drop in _DROPS:
            p = losses.drop_p_value(full.scores, exits.scores, drop, self.claim.error, clusters, top)
            if p > self.claim.error:
                break
            smallest = drop
        return smallest
