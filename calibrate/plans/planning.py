"""A bundle's boundaries, planned from what its segments cost and from what a policy does to pictures.

The bundle is cut finely (a segment a layer), measured, and the policy's captions say how often each of
its segments is called. That gives the calls of every coarser cut: a segment that starts after d layers
runs as often as the fine one that starts there, for exits only move to the next boundary that is kept.
So do `cross_kv` (once a caption, when the depth is first reached) and `fill` (once for up to `fill_rows`
rows of steps that left before it); the decoder's boundaries are chosen for the three together.

What is approximate: exits that move deeper change later states, so later exits and tokens a little; and
a fine segment's time is split into its layer and what its boundary costs by comparison with one coarser
bundle (`boundary_costs`), as if every boundary of a kind cost the same. Measure what was planned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mue_edge.bundle.manifest import Manifest
from mue_edge.calibrate.plans.planner import SegmentWork, boundaries, expected_seconds
from mue_edge.errors import UsageError
from mue_edge.loop.protocol import DECODER, Layout, Stage
from mue_edge.measuring.profile import Profile

KINDS = (DECODER, "cross_kv", "fill")  # of a decoder layer


@dataclass(frozen=True)
class Planned:
    """`ends`: stack → layers after which a segment ends, for a plan; mean seconds of a caption as the bundle
    is cut now, and as it would be cut then."""

    ends: Mapping[str, tuple[int, ...]]
    now: float
    planned: float

    @property
    def options(self) -> dict[str, object]:
        """For a plan file or `export`."""
        return {"ends": {stack: list(ends) for stack, ends in self.ends.items()}}


def boundary_costs(
    fine: Manifest, fine_times: Profile, coarse: Manifest, coarse_times: Profile
) -> dict[str, float]:
    """Kind of segment → seconds that a boundary within it costs: Σ of its fine segments less itself, by
    boundary. Both bundles are of one model, size and precision. A kind that gains nothing costs 0."""
    lost: dict[str, float] = defaultdict(float)
    removed: Counter[str] = Counter()
    for name, whole in coarse.segments.items():
        kind = _kind(name)
        parts = [
            other
            for other, part in fine.segments.items()
            if _kind(other) == kind and whole.first <= part.first and part.last <= whole.last
        ]
        if whole.stack and len(parts) > 1:
            seconds = sum(fine_times.segments[part].median for part in parts)
            lost[kind] += seconds - coarse_times.segments[name].median
            removed[kind] += len(parts) - 1
    return {kind: max(0.0, lost[kind] / removed[kind]) for kind in removed}


def plan(
    layout: Layout, times: Profile, captions: Sequence[Sequence[str]], costs: Mapping[str, float]
) -> Planned:
    """The boundaries that make these captions cheapest, of those that the bundle has.

    layout, times: of the finely cut bundle. captions: the segments that each one called under the policy
    (`outcomes.Run.segments`; `plain_replay.Guess.segments` without a run). costs: see `boundary_costs`;
    a kind that is missing costs the loop's own time a call only. Raises UsageError without captions.
    """
    if not captions:
        raise UsageError("boundaries cannot be planned without captions")
    calls = Counter(name for caption in captions for name in caption)
    mean = {name: count / len(captions) for name, count in calls.items()}
    ends, saved = {}, 0.0
    for stack in layout.stacks:
        if not stack.stages:
            continue
        kinds = KINDS if stack.name == DECODER else (stack.name,)
        works = _works(stack.stages, kinds, times, mean, costs)
        best = boundaries(works)
        saved += expected_seconds(works, range(1, len(stack.stages) + 1)) - best.seconds
        ends[stack.name] = tuple(stack.ends[end - 1] for end in best.ends)
    now = sum(map(times.predict, captions)) / len(captions)
    return Planned(ends, now, now - saved)


def _works(
    stages: Sequence[Stage], kinds: Sequence[str], times: Profile, mean: Mapping[str, float],
    costs: Mapping[str, float],
) -> list[SegmentWork]:  # fmt: skip
    """A stack's work by kind; the stages of the bundle stand for layers. The first has no `fill`."""
    works = []
    for kind in kinds:
        extra = costs.get(kind, 0.0)
        names = [f"{kind}.{j}" for j in range(len(stages))]
        own = [times.segments[name].median if name in times.segments else 0.0 for name in names]
        extra = min([extra, *filter(None, own)])  # no layer may become negative
        layers = tuple(seconds - extra if seconds else 0.0 for seconds in own)
        calls = tuple(mean.get(name, 0.0) for name in names)
        works.append(SegmentWork(layers, extra + times.loop_seconds_per_call, calls))
    return works


def _kind(segment: str) -> str:
    return segment.partition(".")[0]
