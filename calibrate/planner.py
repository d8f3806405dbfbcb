"""Where to cut a stack: boundaries that pay for themselves, by dynamic programming.

A boundary costs a call, its score and the fusion that is lost; it saves what would have run after
it, in the share of the runs that it lets leave. Which share that is follows from traced exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class StackCosts:
    """Seconds. layers[i]: of layer i + 1 within a segment; call: of every segment (dispatch, score, loop)."""

    layers: tuple[float, ...]
    call: float


@dataclass(frozen=True)
class Boundaries:
    """`ends`: layers after which a segment ends, the last being the stack's depth; expected seconds a run."""

    ends: tuple[int, ...]
    seconds: float


def first_passes(passed: Sequence[Sequence[bool]], depth: int) -> list[float]:
    """share[d] of the runs whose exit test passed at none of the first d boundaries; share[0] is 1.

    passed[r][d − 1]: whether run r's test after d layers passed (a full-depth trace under a policy).
    """
    first = [next((d for d, ok in enumerate(row[: depth - 1], 1) if ok), depth) for row in passed]
    return [sum(f > d for f in first) / len(first) for d in range(depth)]


def boundaries(costs: StackCosts, reach: Sequence[float]) -> Boundaries:
    """The cheapest boundaries for runs of which `reach[d]` want to go on after d layers.

    Takes it that a run which may leave after d layers may leave after more, too: a segment that starts
    after d layers is then run by `reach[d]` of all runs, whatever the boundaries before it are, and
    best(d) = min over ends e > d of reach[d] · (call + layers d+1 … e) + best(e), best(depth) = 0.
    """
    depth = len(costs.layers)
    before = [0.0]
    for seconds in costs.layers:
        before.append(before[-1] + seconds)
    best: list[Boundaries] = [Boundaries((), 0.0)] * (depth + 1)
    for start in reversed(range(depth)):
        options = [
            Boundaries(
                (end, *best[end].ends),
                reach[start] * (costs.call + before[end] - before[start]) + best[end].seconds,
            )
            for end in range(start + 1, depth + 1)
        ]
        # Of equal costs the one with fewer segments.
        best[start] = min(options, key=lambda option: (option.seconds, len(option.ends)))
    return best[0]


def expected_seconds(costs: StackCosts, reach: Sequence[float], ends: Sequence[int]) -> float:
    """Expected seconds a run of a stack that is cut at `ends` (the last being its depth)."""
    starts = [0, *ends[:-1]]
    return sum(reach[s] * (costs.call + sum(costs.layers[s:e])) for s, e in zip(starts, ends, strict=True))
