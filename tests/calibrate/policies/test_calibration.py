"""Which policies keep a budget, and what a tighter one leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mue_edge.calibrate.policies import halving
from mue_edge.calibrate.policies.calibration import PolicySearch, budget_of, front_to_full
from mue_edge.calibrate.policies.evaluator import PolicyOutcome
from mue_edge.calibrate.policies.predicted_times import quantile_seconds
from mue_edge.durations import Span
from mue_edge.errors import CannotBeMetError
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.measuring.profile import Noise
from tests.calibrate import made_calibration

SHARE = 0.95


def searched(seed: int) -> PolicySearch:
    """Full depth and twelve policies of random times and lower bounds of quality."""
    rng, made = np.random.default_rng(seed), made_calibration.search()
    judged = [made.full]
    for i in range(12):
        seconds = made.full.seconds * rng.uniform(0.2, 1.1) * rng.lognormal(0, rng.uniform(0, 0.6), 8)
        bound = float(made.full.quality * rng.uniform(0.5, 1.0))
        judged.append(
            replace(
                made.full,
                policy=Policy("fixed", {"decoder": StackExit(depth=1)}, name=f"p{i}"),
                seconds=seconds,
                quality_lower_bound=bound,
            )
        )
    return replace(made, outcomes=tuple(judged), pareto_front=front_to_full(judged))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [None, Noise(1.0, 1.4)])
def test_each_tighter_budget_foretells_no_higher_time(tmp_path: Path, seed: int, noise: Noise | None) -> None:
    profile, found = replace(made_calibration.evaluator(tmp_path).profile, noise=noise), searched(seed)
    _, floor = budget_of(profile, found, "cider_d", Span(share=1.0), SHARE)
    before, last, mean = set[str](), 0.0, 0.0
    for budget in np.geomspace(floor, 10 * floor, 25):
        fitting = found.within(profile, float(budget), SHARE)
        names = {j.policy.name for j in fitting}
        assert before <= names, "a wider budget lost a policy"
        best = max(fitting, key=lambda j: j.quality_lower_bound)
        tail = quantile_seconds(best.seconds, profile, SHARE)
        assert last <= tail <= budget * (1 + 1e-9)
        # The mean follows, but for full depth, whose times vary less, so that it may keep a budget that
        # faster ones miss.
        assert mean <= best.mean_seconds
        mean = 0.0 if best is found.full else best.mean_seconds
        before, last = names, tail
    assert len(before) == len(found.pareto_front)
    for budget in (0.98 * floor, 0.1 * floor, 1e-9):
        with pytest.raises(CannotBeMetError, match=r"the least is .* which keeps"):
            budget_of(profile, found, "cider_d", Span(seconds=float(budget)), SHARE)


def test_a_round_keeps_so_many_of_every_rule_though_others_are_better() -> None:
    """Of five margins that are equally good the fastest dominates all others."""
    made = made_calibration.search().full
    margins = [
        replace(
            made,
            policy=Policy("calm-softmax", {"decoder": StackExit(0.9)}, name=f"m{i}"),
            seconds=made.seconds * (0.1 + 0.1 * i),
            quality_lower_bound=made.quality_lower_bound,
        )
        for i in range(5)
    ]
    step = halving.Round(8, 0, 0, 3)
    for every_rule, names in ((False, {"full"}), (True, {"full", "m0", "m1", "m2"})):
        assert halving.survivors([made, *margins], step, every_rule=every_rule) == names


def test_fronts_are_taken_until_there_are_enough() -> None:
    full = made_calibration.search().full

    def at(name: str, seconds: float, quality: float) -> PolicyOutcome:
        policy = Policy("fixed", {"decoder": StackExit(depth=1)}, name=name)
        return replace(full, policy=policy, seconds=np.full(8, seconds), quality_lower_bound=quality)

    first = [at("a", 1.0, 1.0), at("b", 2.0, 2.0)]
    second = [at("c", 2.0, 1.5), at("d", 3.0, 1.9)]
    third = [at("e", 4.0, 0.5)]
    judged = [*third, *second, *first]
    assert halving.best_of(judged, 1) == {"a", "b"}
    assert halving.best_of(judged, 3) == {"a", "b", "c", "d"}
    assert halving.best_of(judged, 5) == halving.best_of(judged, 99) == {"a", "b", "c", "d", "e"}
    assert halving.best_of([], 1) == set()
