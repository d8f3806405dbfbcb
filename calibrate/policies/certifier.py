"""Runs the frozen candidates on *certify*."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.certificate.binomial import upper_limit
from mue_edge.calibrate.certificate.claim import Candidate, Frozen
from mue_edge.calibrate.certificate.pareto_testing import HeldOutScores
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome
from mue_edge.sessions.captioner import FULL

# Drops that an upper bound is sought among, from the largest.
_DROPS = tuple(i / 1000 for i in (*range(990, 99, -10), *range(99, 0, -1)))


@dataclass(frozen=True)
class Certifier:
    """Runs the frozen candidates on *certify*: all at once when the walk asks for the first, as they share most of
    their runs, and live each time that it asks for one."""

    evaluator: PolicyEvaluator
    certify: Samples
    frozen: Frozen
    tuned: Mapping[str, PolicyOutcome]  # the candidates on *tune*

    @cached_property
    def outcomes(self) -> dict[str, PolicyOutcome]:
        """Full depth's and every candidate's on *certify*, by name."""
        policies = [self.tuned[c.name].policy for c in self.frozen.candidates]
        both = [FULL, *(policy for policy in policies if policy != FULL)]
        evaluated = self.evaluator.evaluate(both, self.certify, f"certify: {len(both)} policies")
        return {outcome.policy.name: outcome for outcome in evaluated}

    def measure(self, candidate: Candidate) -> HeldOutScores:
        """What the walk asks for; times are live ones of one picture a cluster (of the others: none)."""
        exits, full = self.outcomes[candidate.name], self.outcomes[FULL.name]
        if not self.frozen.tests_latency:
            return HeldOutScores(full.scores, exits.scores)
        rows = Clusters(self.certify.clusters, self.frozen.claim.seed).drawn()
        samples = [self.certify.samples[i] for i in rows.tolist()]
        times = self.evaluator.live_seconds([exits.policy], samples, f"live: {candidate.name}")
        seconds = np.full(len(full.scores), float(times.max()))
        seconds[rows] = times[0]
        return HeldOutScores(full.scores, exits.scores, seconds)

    def drop_bound(self, name: str) -> float | None:
        """The smallest drop that *certify* refutes of a policy that was chosen before; None: none.

        Valid for one policy: all drops from it on upwards are refuted at the claim's level.
        """
        full, exits = self.outcomes[FULL.name], self.outcomes[name]
        claim = self.frozen.claim
        clusters = Clusters(self.certify.clusters, claim.seed)
        if claim.loss == losses.CONSISTENCY:
            count = int((exits.scores == 0)[clusters.drawn()].sum())
            return upper_limit(count, clusters.count, claim.error)
        top, smallest = losses.TOPS[claim.loss], None
        for drop in _DROPS:
            p = losses.drop_p_value(full.scores, exits.scores, drop, claim.error, clusters, top)
            if p > claim.error:
                break
            smallest = drop
        return smallest
