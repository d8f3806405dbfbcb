"""From a bundle, a budget and pictures to a front of policies, a choice and its certificate.

The order is the certificate's: traces of *tune* → candidates, judged by predicted time and quality →
primary choice and frozen candidates → *certify*, opened once, policy by policy, with live times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.certificate import losses, pareto_testing, power
from mue_edge.calibrate.certificate.claim import LIVE, Candidate, Certificate, Claim, Frozen, Scope
from mue_edge.calibrate.data.samples import Samples
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import candidates, savings, signals, tuning
from mue_edge.calibrate.policies.certifier import Certifier, bound
from mue_edge.calibrate.policies.setting import FULL, Held, Setting, runs_of, score_of, speak
from mue_edge.calibrate.policies.tuning import Judged
from mue_edge.calibrate.traces.outcomes import decisions
from mue_edge.durations import Span
from mue_edge.errors import CannotBeMetError
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import TEXT, Decision
from mue_edge.measuring import bench
from mue_edge.rules import RULES


@dataclass(frozen=True)
class Round:
    """Candidates are thinned out on so many pictures of *tune*: at least so many pairs of fixed depths and
    others stay, and of each rule where every rule counts."""

    pictures: int
    pairs: int
    others: int
    each: int


# The few pictures of the first cannot tell good from better, so it leaves many. Of a rule's candidates those
# that lose nothing are slow, and on few pictures fast ones are lucky, hence the many of each.
ROUNDS = (Round(12, 10, 80, 24), Round(48, 6, 20, 12), Round(112, 4, 6, 6))
TIMED = 124  # clusters whose captions are timed side by side in the end
MOST_CANDIDATES = 3  # frozen for *certify*: each one walked costs a pass over it, and live times


@dataclass(frozen=True)
class Searched:
    """Judged on *tune*: full depth, every candidate, the front from fastest to full depth. `smallest_drop`
    is what *certify* can show at all; `needed` clusters would show the drop that was asked."""

    full: Judged
    judged: tuple[Judged, ...]
    front: tuple[Judged, ...]
    smallest_drop: float
    needed: int


@dataclass(frozen=True)
class Calibration:
    """`budget` and `floor` (the least that any candidate needs) in seconds; `traces`: the decisions of full
    depth on *tune*, a picture each; `primary` was chosen on *tune*;
    `chosen` is what the certificate says, or `primary` where it says nothing. `bound`: primary's drop is
    below it with the claim's confidence. `held` has full depth's and the chosen policy's figures."""

    budget: float
    floor: float
    traces: tuple[tuple[Decision, ...], ...]
    searched: Searched
    primary: Judged
    chosen: Judged
    fastest: Judged | None
    certificate: Certificate
    bound: float | None
    held: dict[str, Held]


def traces(setting: Setting) -> list[tuple[Decision, ...]]:
    """Decisions of a full-depth caption of every picture of *tune*, every signal read at every boundary."""
    samples, found = setting.tune.samples, []
    with setting.progress("full depth", len(samples)) as step:
        for one in decisions(
            setting.captioner.bundle.path, setting.traces, FULL, samples, workers=setting.workers
        ):
            found.append(one)
            step()
    return found


def enumerated(setting: Setting, traces: Sequence[Sequence[Decision]]) -> list[Policy]:
    """Full depth first, every pair of fixed depths, thresholds at quantiles of the traces."""
    layout, settings = setting.captioner.layout, setting.captioner.settings()
    policies = [*candidates.fixed(layout), *candidates.by_rule(traces, layout, settings.max_length + 1)]
    for stack in layout.of_source(TEXT):
        policies += candidates.with_text(policies, traces, stack)
    return [FULL, *policies]


def promising(setting: Setting, policies: Sequence[Policy], *, every_rule: bool = False) -> list[Policy]:
    """The candidates that are worth all of *tune*, by growing parts of it (successive halving). `every_rule`:
    the best of every rule stay, though others are better."""
    order = np.random.default_rng(0).permutation(len(setting.tune))
    left = list(policies)
    for step in ROUNDS:
        if step.pictures < len(order) and step.pairs + step.others < len(left):
            part = setting.tune.rows(sorted(order[: step.pictures].tolist()), "a part")
            left = thinned(setting, left, part, step, every_rule=every_rule)
    return left


def thinned(
    setting: Setting, policies: Sequence[Policy], part: Samples, step: Round, *, every_rule: bool
) -> list[Policy]:
    """Full depth, the fixed depths that end one stack (what signals are judged by) and the best pairs, the
    front of MuE's own policies, with `every_rule` the best of every rule and more of MuE's, and the best
    others, front after front, until there are enough."""
    spoken, label = speak(setting), f"{len(policies)} policies on {len(part)} tuning pictures"
    found = runs_of(setting, policies, part, label)
    score = score_of(setting, part, [spoken(runs.runs[0].tokens) for runs in found])
    judged = tuning.judge(policies, found, part.clusters, setting.profile, score, spoken)
    fixed = [j for j in judged if j.policy.rule in ("never", "fixed")]
    published = [j for j in judged if savings.as_published(j.policy)]
    by_rule = [[j for j in judged if j.policy.rule == rule] for rule in RULES if every_rule]
    kept = {j.policy.name for j in fixed if j.policy.rule == "never" or signals.end_of(j.policy)}
    kept |= best_of(fixed, step.pairs) | best_of(published, step.each if every_rule else 1)
    kept |= set().union(*(best_of(own, step.each) for own in by_rule))
    kept |= best_of([j for j in judged if j.policy.name not in kept], step.others)
    return [policy for policy in policies if policy.name in kept]


def best_of(judged: Sequence[Judged], least: int) -> set[str]:
    """Names of the first front, of the front without those, and so on, until there are at least so many."""
    left, kept = list(judged), set[str]()
    while left and len(kept) < least:
        kept |= {j.policy.name for j in tuning.front(left)}
        left = [j for j in left if j.policy.name not in kept]
    return kept


def search(
    setting: Setting, claim: Claim, policies: Sequence[Policy], say: Callable[[str], None]
) -> Searched:
    """Judge all policies (full depth first) on *tune*, having said what *certify* can show."""
    spoken, count = speak(setting), Clusters(setting.certify.clusters).count
    found = runs_of(setting, policies, setting.tune, f"{len(policies)} policies on the tuning pictures")
    full_texts = [spoken(runs.runs[0].tokens) for runs in found]
    score = score_of(setting, setting.tune, full_texts)
    judged = tuning.judge(policies, found, setting.tune.clusters, setting.profile, score, spoken)
    full = judged[0]
    if setting.loss == losses.CONSISTENCY:
        changes = 1 - float(np.median([j.quality for j in judged]))
        smallest, needed = power.smallest_share(changes / 10, claim.error, count), 0
    else:
        typical = sorted(judged, key=lambda j: j.mean_seconds)[len(judged) // 2]
        top = losses.TOPS[setting.loss]
        known = power.pairs(full.scores, typical.scores, setting.tune.clusters, top)
        smallest = power.smallest_drop(known, claim.error, count)
        needed = power.clusters_needed(known, claim.max_drop, claim.error)
    say(
        f"{count} clusters to certify on: the smallest drop that they can show is {smallest:.1%}"
        + (f"; {claim.max_drop:.1%} needs {needed}" if needed else "")
    )
    front = tuning.front([j for j in judged if j is full or j.mean_seconds < full.mean_seconds])
    if front[-1] is not full:
        front.append(full)
    return Searched(full, tuple(judged), tuple(front), smallest, needed)


def within(setting: Setting, found: Searched, budget: float, share: float) -> list[Judged]:
    """The front's policies that are foretold to keep the budget."""
    return [j for j in found.front if tuning.late_share(j.seconds, setting.profile, budget) <= 1 - share]


def budget_of(setting: Setting, found: Searched, span: Span, share: float) -> tuple[float, float]:
    """(budget, floor) in seconds. Raises CannotBeMetError for a budget below the floor."""
    least = min(found.front, key=lambda j: tuning.quantile_seconds(j.seconds, setting.profile, share))
    floor = tuning.quantile_seconds(least.seconds, setting.profile, share)
    whole = tuning.quantile_seconds(found.full.seconds, setting.profile, share)
    budget = span.of(whole)
    if not within(setting, found, budget, share):
        kept = least.quality / found.full.quality if found.full.quality else 0.0
        raise CannotBeMetError(
            f"{1000 * budget:.3g} ms for {share:.0%} of the captions cannot be met here: the least is "
            f"{1000 * floor:.3g} ms, by {least.policy.name}, which keeps {kept:.1%} of full depth's "
            f"{losses.NAMES[setting.loss]} on the tuning pictures (full depth needs "
            f"{1000 * whole:.3g} ms); give a larger --budget, a smaller --image-size, or --precision int8"
        )
    return budget, floor


def foretold(setting: Setting, found: Searched, claim: Claim) -> list[Candidate]:
    """The front as candidates of the certificate, with what *tune* foretells of each."""
    groups, count = Clusters(setting.tune.clusters), Clusters(setting.certify.clusters).count
    made = []
    for j in found.front:
        held = pareto_testing.HeldOutScores(found.full.scores, j.scores)
        late = tuning.late_share(j.seconds, setting.profile, claim.budget or 0.0)
        made.append(
            Candidate(
                j.policy.name, j.policy.to_json(),
                pareto_testing.foretold_quality_p(held, groups, claim, count),
                j.mean_seconds, j.safe, pareto_testing.foretold_latency_p(late, claim, count),
            )
        )  # fmt: skip
    return made


def freeze(
    setting: Setting, found: Searched, claim: Claim, made: Sequence[Candidate], primary: str
) -> Frozen:
    """The candidates in their walking order, before *certify* is opened."""
    manifest = setting.captioner.bundle.manifest
    scope = Scope(
        setting.certify.source, setting.certify.fingerprint(),
        setting.decoding, manifest.precision, manifest.plan_hash,
        setting.known.fingerprint() if setting.known else "",
    )  # fmt: skip
    return pareto_testing.freeze(
        made, claim, scope, setting.conditions, found.smallest_drop, primary, MOST_CANDIDATES
    )


def calibrate(
    setting: Setting, span: Span, claim: Callable[[float, str], Claim], say: Callable[[str], None]
) -> Calibration:
    """`claim` makes the claim from the budget in seconds and the loss. Raises CannotBeMetError."""
    draft, traced = claim(1.0, setting.loss), traces(setting)
    found = search(setting, draft, promising(setting, enumerated(setting, traced)), say)
    budget, floor = budget_of(setting, found, span, draft.share)
    wanted = claim(budget, setting.loss)
    by_name, made = {j.policy.name: j for j in found.judged}, foretold(setting, found, wanted)
    fitting = {j.policy.name for j in within(setting, found, budget, wanted.share)}
    favourite = pareto_testing.favourite([c for c in made if c.name in fitting], wanted)
    primary = by_name[favourite.name]
    frozen = freeze(setting, found, wanted, made, favourite.name)
    certifier = Certifier(setting, wanted, {name: j.policy for name, j in by_name.items()})
    certificate = pareto_testing.certify(
        frozen, setting.certify.clusters, certifier.measure, lambda c: -c.quality
    )
    certifier.see(primary.policy.name)
    chosen = by_name[certificate.chosen] if certificate.chosen else primary
    fastest = min(
        (by_name[t.name] for t in certificate.certified), key=lambda j: j.mean_seconds, default=None
    )
    limit = bound(setting, wanted, certifier.held[FULL.name], certifier.held[primary.policy.name])
    return Calibration(
        budget, floor, tuple(traced), found, primary, chosen, fastest, certificate, limit, certifier.held
    )


def live_times(setting: Setting, found: Calibration) -> dict[str, NDArray[np.float64]] | None:
    """Seconds of full depth, the chosen and the fastest certified policy, interleaved, over some pictures of
    *certify*, one of a cluster; None where times are not live."""
    if setting.conditions.kind != LIVE:
        return None
    named = {j.policy.name: j.policy for j in (found.searched.full, found.chosen, found.fastest) if j}
    rows = Clusters(setting.certify.clusters).drawn()[:TIMED]
    samples = [setting.certify.samples[i] for i in rows.tolist()]
    with setting.progress("live, interleaved", len(samples)) as step:
        runs = [(setting.captioner, policy) for policy in named.values()]
        times = bench.policy_seconds(runs, samples, clock=setting.clock, progress=step)
    return dict(zip(named, times, strict=True))
