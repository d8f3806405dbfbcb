"""What a calibration's result says, in figures: computed once, for the record, the report and the terminal.

Predicted times are the profile's with its noise: the mean, and the time that 95 % of the captions keep.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import predicted_times, savings, signals
from mue_edge.calibrate.policies.calibration import Calibration
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
    depth's; mean layers by stack. `on_certify`: the same two on *certify*, where it was run there."""

    policy: Policy
    mean: float
    p95: float
    quality: float
    kept: float
    layers: Mapping[str, float]
    on_certify: tuple[float, float] | None = None


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
    the captions (for the decoder: of the tokens) that exited there; `positions`: its decoder by token.
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


def find(calibration: Calibration, live: Live | None) -> Findings:
    """`live`: policy → seconds of the same captions in the same order, full depth's among them."""
    searched, full, runs = calibration.search, calibration.search.full, calibration.chosen.runs
    point = partial(_point, calibration)

    def optional_point(judged: PolicyOutcome | None) -> FrontPoint | None:
        return None if judged is None else point(judged)

    def saving(share: float) -> Saving:
        limit = (1 - share) * full.mean_seconds
        published_mue = [o for o in searched.outcomes if savings.is_published_mue(o.policy)]
        published = savings.best_within(published_mue, limit)
        best = savings.best_within(searched.outcomes, limit)
        return Saving(share, optional_point(published), optional_point(best))

    late = predicted_times.late_fraction(full.seconds, calibration.evaluator.profile, calibration.budget)
    return Findings(
        calibration.certificate.claim.loss,
        point(full),
        point(calibration.chosen),
        optional_point(calibration.fastest),
        tuple(map(point, shortened(calibration))),
        late <= 1 - calibration.certificate.claim.share,
        signals.signals(calibration.evaluator.session.layout, calibration.traces, full, searched.outcomes),
        exits(runs),
        positions(runs),
        parts(full.runs, runs, calibration.evaluator.profile),
        timed(live, full.policy.name, calibration.budget) if live else {},
        tuple(map(saving, savings.SHARES)),
        savings.duels(searched.outcomes),
    )


def shortened(calibration: Calibration) -> tuple[PolicyOutcome, ...]:
    """At most MOST_POLICIES of the front, from the fastest to full depth, evenly spread in time; always with
    the fastest, the fastest certified, the chosen one and full depth."""
    full, front = calibration.search.full, calibration.search.pareto_front
    kept = {j.policy.name: j for j in (front[0], calibration.fastest, calibration.chosen, full) if j is not None}
    others = {j.policy.name: j for j in front if j.policy.name not in kept}

    def apart(judged: PolicyOutcome) -> float:
        return min(abs(judged.mean_seconds - k.mean_seconds) for k in kept.values())

    while others and len(kept) < MOST_POLICIES:
        furthest = max(others, key=lambda name: apart(others[name]))
        kept[furthest] = others.pop(furthest)
    before = [j for j in kept.values() if j is not full]
    return (*sorted(before, key=lambda j: (j.mean_seconds, j.quality)), full)


def exits(runs: Sequence[TracedRun]) -> dict[str, dict[int, float]]:
    """Stack → layer → share of the runs (decoder: of all their tokens) that exited there; one that stayed to
    the end at the last layer."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for run in runs:
        for stack, depth in run.depths.items():
            counts[stack][depth] += 1
        counts[DECODER].update(run.decoder)
    return {
        stack: {depth: count / own.total() for depth, count in sorted(own.items())} for stack, own in counts.items()
    }


def positions(runs: Sequence[TracedRun]) -> tuple[WordPosition, ...]:
    """By decoder step, the end of the caption included."""
    longest = max(len(run.decoder) for run in runs)
    columns = [[run.decoder[i] for run in runs if len(run.decoder) > i] for i in range(longest)]
    return tuple(WordPosition(sum(column) / len(column), len(column)) for column in columns)


def parts(full: Sequence[TracedRun], chosen: Sequence[TracedRun], profile: Profile) -> dict[str, tuple[float, float]]:
    """Kind of segment → predicted mean seconds (full depth, chosen policy), in the order of their calls."""
    of_full, of_chosen = _parts(full, profile), _parts(chosen, profile)
    return {kind: (of_full.get(kind, 0.0), of_chosen.get(kind, 0.0)) for kind in of_full | of_chosen}


def timed(live: Live, full: str, budget: float) -> dict[str, Timed]:
    """Figures of live times."""
    figures = {}
    for name, seconds in live.items():
        p95, ratio = float(np.percentile(seconds, 95)), float(np.median(seconds / live[full]))
        late = int((seconds > budget).sum())
        figures[name] = Timed(float(seconds.mean()), p95, ratio, late, len(seconds))
    return figures


def _parts(runs: Sequence[TracedRun], profile: Profile) -> dict[str, float]:
    noise = predicted_times.expected_noise(profile)
    once = {"picture": profile.preprocess_seconds or 0.0, "once a caption": profile.caption_seconds}
    seconds = defaultdict(float, once)
    for run in runs:
        for segment in run.segments:
            seconds[segment.partition(".")[0]] += profile.call_seconds(segment) / len(runs)
    return {kind: value * noise for kind, value in seconds.items() if value}


def _point(calibration: Calibration, judged: PolicyOutcome) -> FrontPoint:
    full, name = calibration.search.full, judged.policy.name
    mean = judged.mean_seconds * predicted_times.expected_noise(calibration.evaluator.profile)
    p95 = predicted_times.quantile_seconds(judged.seconds, calibration.evaluator.profile, 0.95)
    kept, on_certify = _share(judged.quality, full.quality), None
    if name in calibration.certify_outcomes:
        groups = Clusters(calibration.certify.clusters)
        quality, whole = (
            float(groups.means(calibration.certify_outcomes[n].scores).mean()) for n in (name, full.policy.name)
        )
        on_certify = quality, _share(quality, whole)
    plan = calibration.evaluator.manifest.plan_hash
    policy = replace(judged.policy, plan=plan, seconds=mean, quality=kept)
    return FrontPoint(policy, mean, p95, judged.quality, kept, judged.layers, on_certify)


def _share(quality: float, full: float) -> float:
    """1 where full depth has no quality to lose."""
    return quality / full if full > 0 else 1.0


def milliseconds(seconds: float) -> str:
    """For a reader."""
    return f"{1e3 * seconds:.3g} ms"


def optional(value: float | None, form: str) -> str:
    """A figure for a reader, or a dash."""
    return "–" if value is None else format(value, form).replace("-", "−")
