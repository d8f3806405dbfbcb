"""The segment planner against every possible set of boundaries."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from mue_edge.calibrate.plans.planning import SegmentWork, boundaries


def expected_seconds(works: list[SegmentWork], ends: tuple[int, ...]) -> float:
    """A run of a stack that is cut there."""
    return sum(w.cost(start, end) for w in works for start, end in zip((0, *ends[:-1]), ends))


@pytest.mark.parametrize("seed", range(20))
def test_no_set_of_boundaries_is_cheaper(seed: int) -> None:
    rng = random.Random(seed)
    depth = rng.randint(1, 7)
    works = [
        SegmentWork(
            tuple(rng.uniform(0.5, 2) for _ in range(depth)),
            rng.uniform(0, 1.5),
            tuple(sorted((rng.uniform(0, 5) for _ in range(depth)), reverse=True)),
        )
        for _ in range(rng.randint(1, 3))
    ]
    sets = [(*inner, depth) for n in range(depth) for inner in combinations(range(1, depth), n)]
    best = min(expected_seconds(works, ends) for ends in sets)
    found = boundaries(works)
    assert found.seconds == pytest.approx(best)
    assert expected_seconds(works, found.ends) == pytest.approx(found.seconds)


def test_extremes() -> None:
    layers = (1.0,) * 6
    assert boundaries([SegmentWork(layers, 0.5, (1.0,) * 6)]).ends == (6,)
    assert boundaries([SegmentWork(layers, 0.0, (1.0, 0.5, 0.4, 0.3, 0.2, 0.1))]).ends == (1, 2, 3, 4, 5, 6)
    stops = SegmentWork(layers, 0.5, (1.0, 1.0, 1.0, 0.0, 0.0, 0.0))
    assert boundaries([stops]).ends == (3, 6)
    # Work that is saved only after five layers, and much of it.
    other = SegmentWork((10.0,) * 6, 0.5, (1.0, 1.0, 1.0, 1.0, 1.0, 0.0))
    assert boundaries([stops, other]).ends == (3, 5, 6)
