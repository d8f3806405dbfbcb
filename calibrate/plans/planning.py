"""A bundle's boundaries, planned from what its segments cost and from what a policy does to pictures.

A boundary costs a call, its score and the fusion that is lost; it saves what would have run after it, in
those runs that exit there. The boundaries that pay are found by dynamic programming.

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
from mue_edge.errors import UsageError
from mue_edge.loop.protocol import DECODER, Layout
from mue_edge.measuring.profile import Profile

KINDS = (DECODER, "cross_kv", "fill")  # of a decoder layer


@dataclass(frozen=True)
class SegmentWork:
    """One kind of segment along a stack, in seconds. layers[i]: of layer i + 1 within a segment; call:
    what each segment adds (dispatch, score, loop); times[d]: mean calls a run of the segment that starts
    after d layers."""

    layers: tuple[float, ...]
    call: float
    times: tuple[float, ...]

    def cost(self, start: int, end: int) -> float:
        """Expected seconds a run of the segment that holds layers start + 1 … end."""
        return self.times[start] * (self.call + sum(self.layers[start:end]))


@dataclass(frozen=True)
class Boundaries:
    """`ends`: layers after which a segment ends, the last being the stack's depth; expected seconds a run."""

    ends: tuple[int, ...]
    seconds: float


def boundaries(works: Sequence[SegmentWork]) -> Boundaries:
    """The cheapest boundaries for a stack that has these kinds of work, cut at the same layers.

    Takes it that a run which may leave after d layers may leave after more, too: how often the segment
    that starts after d layers is called is then `times[d]`, whatever the boundaries before it are, and
    best(d) = min over ends e > d of Σ cost(d, e) + best(e), best(depth) = 0.
    """
    depth = len(works[0].layers)
    best = [Boundaries((), 0.0)] * (depth + 1)
    for start in reversed(range(depth)):
        options = [
            Boundaries((end, *best[end].ends), sum(w.cost(start, end) for w in works) + best[end].seconds)
            for end in range(start + 1, depth + 1)
        ]
        # Of equal costs the one with fewer segments.
        best[start] = min(options, key=lambda option: (option.seconds, len(option.ends)))
    return best[0]


def boundary_costs(fine: Manifest, fine_times: Profile, coarse: Manifest, coarse_times: Profile) -> dict[str, float]:
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
) -> dict[str, tuple[int, ...]]:
    """Stack → layers after which a segment ends: the boundaries that make these captions cheapest, of those
    that the bundle has.

    layout, times: of the finely cut bundle. captions: the segments that each one called under the policy
    (`outcomes.Run.segments`; `plain_replay.Guess.segments` without a run). costs: see `boundary_costs`;
    a kind that is missing costs the loop's own time a call only. Raises UsageError without captions.
    """
    if not captions:
        raise UsageError("boundaries cannot be planned without captions")
    calls = Counter(name for caption in captions for name in caption)
    mean = {name: count / len(captions) for name, count in calls.items()}
    ends = {}
    for stack in layout.stacks:
        if stack.stages:
            kinds = KINDS if stack.name == DECODER else (stack.name,)
            works = [_work(kind, len(stack.stages), times, mean, costs.get(kind, 0.0)) for kind in kinds]
            ends[stack.name] = tuple(stack.ends[end - 1] for end in boundaries(works).ends)
    return ends


def _work(kind: str, stages: int, times: Profile, mean_calls: Mapping[str, float], boundary: float) -> SegmentWork:
    """The bundle's stages stand for layers. The first has no `fill`. boundary: seconds that one costs."""
    names = [f"{kind}.{i}" for i in range(stages)]
    seconds = [times.segments[name].median if name in times.segments else 0.0 for name in names]
    boundary = min([boundary, *filter(None, seconds)])  # no layer may become negative
    layers = tuple(value - boundary if value else 0.0 for value in seconds)
    calls = tuple(mean_calls.get(name, 0.0) for name in names)
    return SegmentWork(layers, boundary + times.loop_seconds_per_call, calls)


def _kind(segment: str) -> str:
    return segment.partition(".")[0]
