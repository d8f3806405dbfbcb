"""From a bundle, a budget and pictures to a front of policies, a choice and its certificate.

The order is the certificate's: traces of *tune* → candidates, evaluated by predicted time and quality →
primary choice and frozen candidates → *certify*, opened once: all together, then live times as the walk goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.certificate import losses, pareto_testing, power
from mue_edge.calibrate.certificate.claim import LIVE, Candidate, Certificate, Claim, Conditions, Frozen
from mue_edge.calibrate.certificate.pareto_testing import HeldOutScores
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import halving
from mue_edge.calibrate.policies.certifier import Certifier
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome, pareto_front
from mue_edge.calibrate.policies.predicted_times import late_fraction, quantile_seconds
from mue_edge.durations import Span
from mue_edge.errors import CannotBeMetError
from mue_edge.loop.protocol import ExitDecision
from mue_edge.measuring.profile import Profile

TIMED = 124  # clusters whose captions are timed side by side in the end
MOST_CANDIDATES = 3  # frozen for *certify*: each one walked costs a pass over it, and live times


@dataclass(frozen=True)
class PolicySearch:
    """Outcomes on *tune*: full depth's, every candidate's, the front's from fastest to full depth.

    `smallest_drop` is what *certify* can show at all; `clusters_needed` would show the drop that was asked.
    """

    outcomes: Sequence[PolicyOutcome]
    pareto_front: tuple[PolicyOutcome, ...]
    smallest_drop: float
    clusters_needed: int

    @property
    def full(self) -> PolicyOutcome:
        return self.outcomes[0]

    def within(self, profile: Profile, budget: float, share: float) -> list[PolicyOutcome]:
        """The front's policies whose predicted times keep the budget for a share of the captions."""
        return [o for o in self.pareto_front if late_fraction(o.seconds, profile, budget) <= 1 - share]


@dataclass(frozen=True)
class Calibration:
    """What was calibrated, on what, and the result.

    `budget` and `floor` (the least that any candidate needs) in seconds; `traces`: the decisions of full
    depth on *tune*, a picture each; `primary` was chosen on *tune*; `chosen` is what the certificate says, or
    `primary` where it says nothing. `drop_bound`: primary's drop is below it with the claim's confidence.
    `certify_outcomes`: of full depth and the frozen candidates on *certify*, by name.
    """

    evaluator: PolicyEvaluator
    tune: Samples
    certify: Samples
    conditions: Conditions
    budget: float
    floor: float
    traces: Sequence[Sequence[ExitDecision]]
    search: PolicySearch
    primary: PolicyOutcome
    chosen: PolicyOutcome
    fastest: PolicyOutcome | None
    certificate: Certificate
    drop_bound: float | None
    certify_outcomes: dict[str, PolicyOutcome]


def policy_search(
    outcomes: Sequence[PolicyOutcome], tune: Samples, certify: Samples, claim: Claim, say: Callable[[str], None]
) -> PolicySearch:
    """The front of outcomes on *tune* (full depth's first); `say` gets what *certify* can show."""
    full, count = outcomes[0], Clusters(certify.clusters).count
    if claim.loss == losses.CONSISTENCY:
        changes = 1 - float(np.median([o.quality for o in outcomes]))
        smallest, needed = power.smallest_share(changes / 10, claim.error, count), 0
    else:
        typical = sorted(outcomes, key=lambda o: o.mean_seconds)[len(outcomes) // 2]
        pairs = power.pairs(full.scores, typical.scores, tune.clusters, losses.TOPS[claim.loss])
        smallest = power.smallest_drop(pairs, claim.error, count)
        needed = power.clusters_needed(pairs, claim.max_drop, claim.error)
    say(
        f"{count} clusters to certify on: the smallest drop that they can show is {smallest:.1%}"
        + (f"; {claim.max_drop:.1%} needs {needed}" if needed else "")
    )
    return PolicySearch(outcomes, front_to_full(outcomes), smallest, needed)


def front_to_full(outcomes: Sequence[PolicyOutcome]) -> tuple[PolicyOutcome, ...]:
    """The front of the policies that are faster than full depth, the first of them, and full depth."""
    full = outcomes[0]
    front = pareto_front([full, *(o for o in outcomes if o.mean_seconds < full.mean_seconds)])
    return (*(o for o in front if o is not full), full)


def budget_of(profile: Profile, search: PolicySearch, loss: str, span: Span, share: float) -> tuple[float, float]:
    """(budget, floor) in seconds. Raises CannotBeMetError for a budget below the floor."""
    tails = [quantile_seconds(o.seconds, profile, share) for o in search.pareto_front]
    floor, whole = min(tails), tails[-1]
    least = search.pareto_front[tails.index(floor)]
    budget = span.of(whole)
    if not search.within(profile, budget, share):
        kept = least.quality / search.full.quality if search.full.quality else 0.0
        raise CannotBeMetError(
            f"{1000 * budget:.3g} ms for {share:.0%} of the captions cannot be met here: the least is "
            f"{1000 * floor:.3g} ms, by {least.policy.name}, which keeps {kept:.1%} of full depth's "
            f"{losses.NAMES[loss]} on the tuning pictures (full depth needs "
            f"{1000 * whole:.3g} ms); give a larger --budget, a smaller --image-size, or --precision int8"
        )
    return budget, floor


def frozen_candidates(
    evaluator: PolicyEvaluator,
    tune: Samples,
    certify: Samples,
    conditions: Conditions,
    claim: Claim,
    search: PolicySearch,
) -> Frozen:
    """The front with what *tune* predicts of each, in walking order, before *certify* is opened: first the
    favourite of those that keep the budget."""
    clusters, count = Clusters(tune.clusters), Clusters(certify.clusters).count
    front, budget = [], claim.budget or 0.0
    for o in search.pareto_front:
        scores, policy = HeldOutScores(search.full.scores, o.scores), o.policy.to_json()
        p_quality = pareto_testing.predicted_quality_p(scores, clusters, claim, count)
        late = late_fraction(o.seconds, evaluator.profile, budget)
        p_latency = pareto_testing.predicted_latency_p(late, claim, count)
        bound = o.quality_lower_bound
        front.append(Candidate(o.policy.name, policy, p_quality, o.mean_seconds, bound, p_latency))
    fitting = {o.policy.name for o in search.within(evaluator.profile, budget, claim.share)}
    primary = pareto_testing.favourite([c for c in front if c.name in fitting], claim)
    scope, smallest = evaluator.scope(certify), search.smallest_drop
    return pareto_testing.freeze(front, claim, scope, conditions, smallest, primary.name, MOST_CANDIDATES)


def calibrate(
    evaluator: PolicyEvaluator,
    tune: Samples,
    certify: Samples,
    conditions: Conditions,
    span: Span,
    claim_of: Callable[[float, str], Claim],
    say: Callable[[str], None],
) -> Calibration:
    """The front and its certificate; `claim_of` makes the claim from the budget in seconds and the loss.

    Raises CannotBeMetError.
    """
    loss = evaluator.loss(tune)
    draft, traces = claim_of(1.0, loss), evaluator.decisions(tune)
    outcomes = halving.evaluated_candidates(evaluator, tune, traces)
    search = policy_search(outcomes, tune, certify, draft, say)
    budget, floor = budget_of(evaluator.profile, search, loss, span, draft.share)
    claim = claim_of(budget, loss)
    frozen = frozen_candidates(evaluator, tune, certify, conditions, claim, search)
    by_name = {o.policy.name: o for o in search.outcomes}
    certifier = Certifier(evaluator, certify, frozen, by_name)
    certificate = pareto_testing.certify(frozen, certify.clusters, certifier.measure, lambda c: -c.quality)
    primary = by_name[frozen.candidates[0].name]
    certified = [by_name[test.name] for test in certificate.certified]
    return Calibration(
        evaluator=evaluator,
        tune=tune,
        certify=certify,
        conditions=conditions,
        budget=budget,
        floor=floor,
        traces=traces,
        search=search,
        primary=primary,
        chosen=by_name[certificate.chosen] if certificate.chosen else primary,
        fastest=min(certified, key=lambda o: o.mean_seconds, default=None),
        certificate=certificate,
        drop_bound=certifier.drop_bound(primary.policy.name),
        certify_outcomes=certifier.outcomes,
    )


def live_times(calibration: Calibration) -> dict[str, NDArray[np.float64]] | None:
    """Seconds of full depth, the chosen and the fastest certified policy, interleaved, over some pictures of
    *certify*, one of a cluster; None where times are not live."""
    if calibration.conditions.kind != LIVE:
        return None
    chosen = (calibration.search.full, calibration.chosen, calibration.fastest)
    policies = {o.policy.name: o.policy for o in chosen if o}
    rows = Clusters(calibration.certify.clusters).drawn()[:TIMED].tolist()
    samples = [calibration.certify.samples[i] for i in rows]
    times = calibration.evaluator.live_seconds(list(policies.values()), samples, "live, interleaved")
    return dict(zip(policies, times, strict=True))
