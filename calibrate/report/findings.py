"""What a calibration's result says, in figures: computed once, for the record, the report and the terminal.

Predicted times are the profile's with its noise: the mean, and the time that 95 % of the captions keep.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.certificate import losses
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import predicted_times, savings, signals
from mue_edge.calibrate.policies.calibration import Calibration, PolicySearch
from mue_edge.calibrate.policies.evaluator import PolicyOutcome
from mue_edge.calibrate.policies.savings import Duel
from mue_edge.calibrate.policies.signals import SignalQuality
from mue_edge.calibrate.traces.tracing import TracedRun
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import DECODER
from mue_edge.measuring.profile import Profile

MOST_POLICIES = 12
Live = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class FrontPoint:
    """A policy on *tune*, ready for a front: predicted seconds, quality as scored, and as a share of full
    depth's; mean layers by stack. `held`: the same two on *certify*, where it was run there."""

    policy: Policy
    mean: float
    p95: float
    quality: float
    kept: float
    layers: Mapping[str, float]
    held: tuple[float, float] | None = None


@dataclass(frozen=True)
class Timed:
    """Live seconds of a policy: mean and 95th percentile, the median of the paired ratios to full depth's,
    and how many of so many captions were later than the budget."""

    mean: float
    p95: float
    ratio: float
    late: int
    captions: int


@dataclass(frozen=True)
class WordPosition:
    """Mean decoder layers at a token's place in the caption, over the captions that have one there."""

    layers: float
    captions: int


@dataclass(frozen=True)
class Saving:
    """At this share of full depth's mean time saved: the best of MuE's own policies, and the best of all
    candidates (None: none is so fast)."""

    share: float
    published: FrontPoint | None
    best: FrontPoint | None


@dataclass(frozen=True)
class Findings:
    """`fits`: full depth itself keeps the budget. `exits`: of the chosen policy, stack → layer → share of
    the captions (for the decoder: of the tokens) that left there; `positions`: its decoder by token.
    `parts`: predicted mean seconds a caption by kind of segment, at full depth and under the chosen policy.
    `duels`: every pair of fixed depths against exits by score.
    `live` has the policies that were timed side by side, by name."""

    loss: str
    full: FrontPoint
    chosen: FrontPoint
    fastest: FrontPoint | None
    front: tuple[FrontPoint, ...]
    fits: bool
    signals: tuple[SignalQuality, ...]
    exits: Mapping[str, Mapping[int, float]]
    positions: tuple[WordPosition, ...]
    parts: Mapping[str, tuple[float, float]]
    live: Mapping[str, Timed]
    savings: tuple[Saving, ...]
    duels: tuple[Duel, ...]


def find(found: Calibration, live: Live | None) -> Findings:
    """`live`: policy → seconds of the same captions in the same order, full depth's among them."""
    searched, profile, claim = found.search, found.evaluator.profile, found.certificate.claim

    def point(judged: PolicyOutcome) -> FrontPoint:
        return _point(found, judged)

    layout = found.evaluator.session.layout
    late = predicted_times.late_fraction(searched.full.seconds, profile, found.budget)
    runs = found.chosen.runs
    return Findings(
        claim.loss,
        point(searched.full),
        point(found.chosen),
        point(found.fastest) if found.fastest else None,
        tuple(point(judged) for judged in shortened(found)),
        late <= 1 - claim.share,
        signals.signals(layout, found.traces, searched.full, searched.outcomes),
        exits(runs),
        positions(runs),
        parts(searched.full.runs, runs, profile),
        timed(live, searched.full.policy.name, found.budget) if live else {},
        tuple(saved(searched, share, point) for share in savings.SHARES),
        savings.duels(searched.outcomes),
    )


def saved(searched: PolicySearch, share: float, point: Callable[[PolicyOutcome], FrontPoint]) -> Saving:
    """What is left of quality when this share of full depth's mean time is saved."""
    limit = (1 - share) * searched.full.mean_seconds
    published_mue = [o for o in searched.outcomes if savings.is_published_mue(o.policy)]
    both = (savings.best_within(outcomes, limit) for outcomes in (published_mue, searched.outcomes))
    published, best = (None if found is None else point(found) for found in both)
    return Saving(share, published, best)


def shortened(found: Calibration) -> tuple[PolicyOutcome, ...]:
    """At most MOST_POLICIES of the front, from the fastest to full depth, evenly spread in time; always with
    the fastest, the fastest certified, the chosen one and full depth."""
    full, front = found.search.full, found.search.pareto_front
    kept = {j.policy.name: j for j in (front[0], found.fastest, found.chosen, full) if j is not None}
    others = {j.policy.name: j for j in front if j.policy.name not in kept}

    def apart(judged: PolicyOutcome) -> float:
        return min(abs(judged.mean_seconds - k.mean_seconds) for k in kept.values())

    while others and len(kept) < MOST_POLICIES:
        furthest = max(others, key=lambda name: apart(others[name]))
        kept[furthest] = others.pop(furthest)
    before = [j for j in kept.values() if j is not full]
    return (*sorted(before, key=lambda j: (j.mean_seconds, j.quality)), full)


def exits(runs: Sequence[TracedRun]) -> dict[str, dict[int, float]]:
    """Stack → layer → share of the runs (decoder: of all their tokens) that left there; one that stayed to
    the end left at the last layer."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for run in runs:
        for stack, depth in run.depths.items():
            counts[stack][depth] += 1
        counts[DECODER].update(run.decoder)
    return {
        stack: {depth: count / seen.total() for depth, count in sorted(seen.items())}
        for stack, seen in counts.items()
    }


def positions(runs: Sequence[TracedRun]) -> tuple[WordPosition, ...]:
    """By decoder step, the end of the caption included."""
    longest = max(len(run.decoder) for run in runs)
    columns = [[run.decoder[i] for run in runs if len(run.decoder) > i] for i in range(longest)]
    return tuple(WordPosition(sum(column) / len(column), len(column)) for column in columns)


def parts(
    full: Sequence[TracedRun], chosen: Sequence[TracedRun], profile: Profile
) -> dict[str, tuple[float, float]]:
    """Kind of segment → predicted mean seconds (full depth, chosen policy), in the order of their calls."""
    both = (_parts(full, profile), _parts(chosen, profile))
    return {kind: (both[0].get(kind, 0.0), both[1].get(kind, 0.0)) for kind in {**both[0], **both[1]}}


def timed(live: Live, full: str, budget: float) -> dict[str, Timed]:
    """Figures of live times."""
    return {
        name: Timed(
            float(seconds.mean()),
            float(np.percentile(seconds, 95)),
            float(np.median(seconds / live[full])),
            int((seconds > budget).sum()),
            len(seconds),
        )
        for name, seconds in live.items()
    }


def _parts(runs: Sequence[TracedRun], profile: Profile) -> dict[str, float]:
    noise = predicted_times.expected_noise(profile) / len(runs)
    seconds = {"picture": (profile.preprocess_seconds or 0.0) * len(runs)}
    seconds["once a caption"] = profile.caption_seconds * len(runs)
    for run in runs:
        for segment in run.segments:
            kind = segment.partition(".")[0]
            seconds[kind] = seconds.get(kind, 0.0) + profile.call_seconds(segment)
    return {kind: value * noise for kind, value in seconds.items() if value}


def _point(found: Calibration, judged: PolicyOutcome) -> FrontPoint:
    profile, full = found.evaluator.profile, found.search.full
    mean = judged.mean_seconds * predicted_times.expected_noise(profile)
    kept = _share(judged.quality, full.quality)
    held = None
    if judged.policy.name in found.certify_outcomes:
        groups = Clusters(found.certify.clusters)
        quality, whole = (
            float(groups.means(found.certify_outcomes[name].scores).mean())
            for name in (judged.policy.name, full.policy.name)
        )
        held = quality, _share(quality, whole)
    plan = found.evaluator.manifest.plan_hash
    policy = replace(judged.policy, plan=plan, seconds=mean, quality=kept)
    p95 = predicted_times.quantile_seconds(judged.seconds, profile, 0.95)
    return FrontPoint(policy, mean, p95, judged.quality, kept, judged.layers, held)


def _share(quality: float, full: float) -> float:
    """1 where full depth has no quality to lose."""
    return quality / full if full > 0 else 1.0


def unit(loss: str) -> str:
    """What quality is measured in, for a reader."""
    return losses.NAMES[loss]
