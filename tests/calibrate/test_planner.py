"""The segment planner against every possible set of boundaries."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from mue_edge.calibrate.planner import StackCosts, boundaries, expected_seconds, first_passes


@pytest.mark.parametrize("seed", range(20))
def test_no_set_of_boundaries_is_cheaper(seed: int) -> None:
    rng = random.Random(seed)
    depth = rng.randint(1, 7)
    costs = StackCosts(tuple(rng.uniform(0.5, 2) for _ in range(depth)), rng.uniform(0, 1.5))
    reach = sorted((rng.random() for _ in range(depth)), reverse=True)
    reach[0] = 1.0
    sets = [(*inner, depth) for n in range(depth) for inner in combinations(range(1, depth), n)]
    best = min(expected_seconds(costs, reach, ends) for ends in sets)
    found = boundaries(costs, reach)
    assert found.seconds == pytest.approx(best)
    assert expected_seconds(costs, reach, found.ends) == pytest.approx(found.seconds)


def test_extremes() -> None:
    layers = (1.0,) * 6
    assert boundaries(StackCosts(layers, 0.5), [1.0] * 6).ends == (6,)
    assert boundaries(StackCosts(layers, 0.0), [1.0, 0.5, 0.4, 0.3, 0.2, 0.1]).ends == (1, 2, 3, 4, 5, 6)
    assert boundaries(StackCosts(layers, 0.5), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]).ends == (3, 6)


def test_shares_of_a_trace() -> None:
    passed = [[False, True, False, True], [True, True, True, True], [False, False, False, True]]
    assert first_passes(passed, 4) == [1.0, pytest.approx(2 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3)]
