"""Where to cut a stack: boundaries that pay for themselves, by dynamic programming.

A boundary costs a call, its score and the fusion that is lost; it saves what would have run after
it, in those runs that leave there. How often a segment is called follows from traced exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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


def expected_seconds(works: Sequence[SegmentWork], ends: Sequence[int]) -> float:
    """Expected seconds a run of a stack that is cut at `ends` (the last being its depth)."""
    return sum(w.cost(start, end) for w in works for start, end in zip((0, *ends[:-1]), ends))
