"""Runs policies on *certify* when the walk asks for them."""

from __future__ import annotations

import numpy as np

from mue_edge.calibrate.certificate import losses, pareto_testing
from mue_edge.calibrate.certificate.binomial import upper_limit
from mue_edge.calibrate.certificate.claim import LIVE, Candidate, Claim
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies.setting import FULL, Held, Setting, runs_of, score_of, speak
from mue_edge.loop.policy import Policy
from mue_edge.measuring import bench


class Certifier:
    """Runs policies on *certify* when the walk asks for them, and keeps what it saw."""

    def __init__(self, setting: Setting, claim: Claim, by_name: dict[str, Policy]) -> None:
        self._setting, self._claim, self._policies = setting, claim, by_name
        self.held: dict[str, Held] = {}
        self._drawn = Clusters(setting.certify.clusters, claim.seed).drawn()

    def see(self, name: str) -> Held:
        """A policy's scores and captions on *certify*."""
        if name not in self.held:
            spoken = speak(self._setting)
            names = [FULL.name, name] if FULL.name not in self.held else [name]
            part = self._setting.certify
            found = runs_of(self._setting, [self._policies[n] for n in names], part, f"certify: {name}")
            for i, known in enumerate(names):
                texts = tuple(spoken(runs.runs[i].tokens) for runs in found)
                whole = texts if known == FULL.name else self.held[FULL.name].captions
                scores = np.asarray(score_of(self._setting, part, whole)(texts), dtype=np.float64)
                self.held[known] = Held(scores, texts)
        return self.held[name]

    def measure(self, candidate: Candidate) -> pareto_testing.HeldOutScores:
        """What the walk asks for; times are live ones of one picture a cluster (of the others: none)."""
        exits, full = self.see(candidate.name), self.see(FULL.name)
        if self._setting.conditions.kind != LIVE or self._claim.budget is None:
            return pareto_testing.HeldOutScores(full.scores, exits.scores)
        samples = [self._setting.certify.samples[i] for i in self._drawn.tolist()]
        with self._setting.progress(f"live: {candidate.name}", len(samples)) as step:
            times = bench.policy_seconds(
                [(self._setting.captioner, self._policies[candidate.name])], samples,
                clock=self._setting.clock, progress=step,
            )  # fmt: skip
        seconds = np.full(len(full.scores), float(times.max()))
        seconds[self._drawn] = times[0]
        return pareto_testing.HeldOutScores(full.scores, exits.scores, seconds)


def bound(setting: Setting, claim: Claim, full: Held, exits: Held) -> float | None:
    """The smallest drop that *certify* refutes of a policy that was chosen before; None: none below 100 %.

    Valid for one policy: all drops from it on upwards are refuted at the claim's level.
    """
    groups = Clusters(setting.certify.clusters, claim.seed)
    if setting.loss == losses.CONSISTENCY:
        count = int((exits.scores == 0)[groups.drawn()].sum())
        return upper_limit(count, groups.count, claim.error)
    smallest = None
    for drop in reversed([i / 1000 for i in (*range(1, 100), *range(100, 1000, 10))]):
        p = losses.drop_p_value(
            full.scores, exits.scores, drop, claim.error, groups, losses.TOPS[setting.loss]
        )  # fmt: skip
        if p > claim.error:
            break
        smallest = drop
    return smallest
