"""What methods choose, and the figures of their choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.calibrate.policies import comparison
from mue_edge.calibrate.policies.comparison import Aim, Entrant, Pick
from mue_edge.calibrate.policies.evaluator import PolicyEvaluator, PolicyOutcome
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.sessions.captioner import FULL
from tests.calibrate import made_calibration

TUNE = Clusters(made_calibration.samples("tune").clusters)
MARGIN = Policy("calm-softmax", {"decoder": StackExit(0.9)}, name="margin")
SURE = Policy("calm-softmax", {"decoder": StackExit(0.99)}, name="sure")
MUE = Policy("mue", {"decoder": StackExit(0.9)}, name="mue")
SHALLOW = Policy("fixed", {"decoder": StackExit(depth=1)}, name="fixed-3-1")


def outcome(policy: Policy, seconds: float, scores: Sequence[float]) -> PolicyOutcome:
    """Eight pictures, two a cluster."""
    found = np.repeat(np.asarray(scores, float), 2)
    mean = float(found.mean())
    return PolicyOutcome(policy, (), ("",) * 8, found, np.full(8, seconds), mean, mean)


@pytest.fixture
def entrants(tmp_path: Path) -> list[Entrant]:
    evaluator = made_calibration.evaluator(tmp_path)
    main = Entrant(evaluator, (
        outcome(FULL, 10, [5, 5, 5, 5]), outcome(SHALLOW, 4, [4, 4, 4, 4]), outcome(MUE, 6, [5, 5, 5, 4]),
        outcome(MARGIN, 5, [5, 5, 5, 4]), outcome(SURE, 7, [5, 5, 5, 5]),
    ))  # fmt: skip
    small = Entrant(evaluator, (outcome(FULL, 3, [5, 4, 4, 5]), outcome(MARGIN, 1, [5, 5, 5, 5])), "small")
    return [main, small]


def chosen(entrants: list[Entrant], method: str, aim: Aim, seed: int = 0) -> str | None:
    own = next(m for m in comparison.methods(entrants) if m.name == method)
    pick = comparison.choose(entrants, own, aim, seed, TUNE)
    return None if pick is None else pick.outcome.policy.name


def test_methods_are_the_rules_that_have_candidates_and_the_static_models(entrants: list[Entrant]) -> None:
    names = [method.name for method in comparison.methods(entrants)]
    assert names == ["fixed depths", comparison.MUE, "mue, by boundary", "calm-softmax", "static small", "best"]


def test_the_least_time_at_a_loss_and_the_best_quality_at_a_saving(entrants: list[Entrant]) -> None:
    assert chosen(entrants, "best", Aim(drop=0.01)) == "sure"
    assert chosen(entrants, "best", Aim(drop=0.05)) == "margin"
    assert chosen(entrants, comparison.MUE, Aim(drop=0.05)) == "mue"
    assert chosen(entrants, "best", Aim(saved=0.3)) == "sure"
    assert chosen(entrants, "best", Aim(saved=0.5)) == "margin"
    assert chosen(entrants, "fixed depths", Aim(saved=0.5)) == "fixed-3-1"
    assert chosen(entrants, comparison.MUE, Aim(saved=0.5)) is None


def test_a_static_model_is_held_against_the_other_ones_full_depth(entrants: list[Entrant]) -> None:
    assert chosen(entrants, "static small", Aim(drop=0.05)) is None  # 4.5 of 5 is a loss of 10 %
    assert chosen(entrants, "static small", Aim(drop=0.1)) == "full"
    assert chosen(entrants, "best", Aim(drop=0.2)) == "fixed-3-1"  # static models are no candidates of it


def test_a_model_of_a_rules_own_training_may_only_use_that_rule(entrants: list[Entrant]) -> None:
    own = replace(entrants[1], name="weighted", rules=("calm-softmax", "pabee"))
    found = [m for m in comparison.methods([*entrants, own]) if m.own]
    assert [(m.name, m.own) for m in found] == [
        ("calm-softmax, own training", "calm-softmax"),
        ("pabee, own training", "pabee"),
    ]
    assert chosen([*entrants, own], found[0].name, Aim(drop=0.05)) == "margin"
    assert chosen([*entrants, own], found[1].name, Aim(drop=0.05)) is None
    assert chosen([*entrants, own], "static small", Aim(drop=0.1)) == "full"


def test_every_seed_is_held_against_its_own_full_depth(entrants: list[Entrant]) -> None:
    weak = replace(entrants[0], outcomes=tuple(replace(o, scores=o.scores / 2) for o in entrants[0].outcomes))
    bases = [Pick(e, e.outcomes[0]) for e in (entrants[0], weak)]
    keys = [(id(e), "full") for e in (entrants[0], weak)]
    seen = {
        keys[0]: outcome(FULL, 0, [4.0] * 4),
        keys[1]: outcome(FULL, 0, [2.0] * 4),
        (id(weak), "margin"): outcome(MARGIN, 0, [1.0] * 4),
        (id(entrants[0]), "margin"): outcome(MARGIN, 0, [3.0] * 4),
    }
    seconds = {key: np.full(8, s) for key, s in zip(seen, (4.0, 2.0, 1.0, 2.0), strict=True)}
    groups = [str(i // 2) for i in range(8)]
    table = comparison.ComparisonTable(seen, seconds, bases, groups, groups)
    picks = [Pick(e, next(o for o in e.outcomes if o.policy is MARGIN)) for e in (entrants[0], weak)]
    assert table.changes(picks) == pytest.approx((-0.25, -0.5))
    assert table.change(picks).mean == pytest.approx(-1 / 3)  # 2 of 3 on average
    assert table.time([seconds[id(p.entrant), "margin"] for p in picks], bases).mean == pytest.approx(0.5)


def test_a_seed_draws_clusters_anew_for_all_alike(entrants: list[Entrant]) -> None:
    drops = {
        comparison.drawn_quality(entrants[0].outcomes[2], seed, TUNE)
        / comparison.drawn_quality(entrants[0].outcomes[0], seed, TUNE)
        for seed in range(8)
    }
    assert {round(4 * (1 - drop) * 5) for drop in drops} > {0, 1}  # clusters of the loss: none, one, more
    alike = [comparison.drawn_quality(entrants[0].outcomes[i], 3, TUNE) for i in (2, 3)]
    assert alike[0] == alike[1]


def test_held_out_picks_of_every_model_are_scored_against_its_own_full_depth(
    entrants: list[Entrant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without references the first policy's captions are the ones that count."""
    asked: list[list[str]] = []

    def evaluate(_: PolicyEvaluator, policies: Sequence[Policy], *__: object) -> list[PolicyOutcome]:
        asked.append([policy.name for policy in policies])
        return [outcome(policy, 1, [5] * 4) for policy in policies]

    monkeypatch.setattr(PolicyEvaluator, "evaluate", evaluate)
    picks = [Pick(entrants[0], entrants[0].outcomes[2]), Pick(entrants[1], entrants[1].outcomes[1])]
    found = comparison._outcomes({pick.key: pick for pick in picks}, made_calibration.samples("certify"))
    assert asked == [["full", "mue"], ["full", "margin"]]
    assert [found[pick.key].policy.name for pick in picks] == ["mue", "margin"]
