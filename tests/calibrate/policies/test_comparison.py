"""What methods choose, and the figures of their choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mue_edge.calibrate.policies import comparison, modalities
from mue_edge.calibrate.policies.comparison import Aim, Entrant, Pick
from mue_edge.calibrate.policies.held import HeldOutOutcome
from mue_edge.calibrate.policies.setting import FULL
from mue_edge.calibrate.policies.tuning import Judged
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import ExitDecision
from tests.calibrate import made_calibration

MARGIN = Policy("calm-softmax", {"decoder": StackExit(0.9)}, name="margin")
SURE = Policy("calm-softmax", {"decoder": StackExit(0.99)}, name="sure")
MUE = Policy("mue", {"decoder": StackExit(0.9)}, name="mue")
SHALLOW = Policy("fixed", {"decoder": StackExit(depth=1)}, name="fixed-3-1")


def judged(policy: Policy, seconds: float, scores: Sequence[float]) -> Judged:
    """Eight pictures, two a cluster."""
    found = np.repeat(np.asarray(scores, float), 2)
    return Judged(
        policy, np.full(8, seconds), found, ("",) * 8, {}, float(found.mean()), float(found.mean()), ()
    )


@pytest.fixture
def entrants(tmp_path: Path) -> list[Entrant]:
    setting = made_calibration.setting(tmp_path)
    main = Entrant(setting, (
        judged(FULL, 10, [5, 5, 5, 5]), judged(SHALLOW, 4, [4, 4, 4, 4]), judged(MUE, 6, [5, 5, 5, 4]),
        judged(MARGIN, 5, [5, 5, 5, 4]), judged(SURE, 7, [5, 5, 5, 5]),
    ))  # fmt: skip
    small = Entrant(setting, (judged(FULL, 3, [5, 4, 4, 5]), judged(MARGIN, 1, [5, 5, 5, 5])), "small")
    return [main, small]


def chosen(entrants: list[Entrant], method: str, aim: Aim, seed: int = 0) -> str | None:
    own = next(m for m in comparison.methods(entrants) if m.name == method)
    pick = comparison.choose(entrants, own, aim, seed)
    return None if pick is None else pick.judged.policy.name


def test_methods_are_the_rules_that_have_candidates_and_the_static_models(entrants: list[Entrant]) -> None:
    names = [method.name for method in comparison.methods(entrants)]
    assert names == [
        "fixed depths", comparison.MUE, "mue, by boundary", "calm-softmax", "static small", "best",
    ]  # fmt: skip


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
        ("calm-softmax, own training", "calm-softmax"), ("pabee, own training", "pabee"),
    ]  # fmt: skip
    assert chosen([*entrants, own], found[0].name, Aim(drop=0.05)) == "margin"
    assert chosen([*entrants, own], found[1].name, Aim(drop=0.05)) is None
    assert chosen([*entrants, own], "static small", Aim(drop=0.1)) == "full"


def test_every_seed_is_held_against_its_own_full_depth(entrants: list[Entrant]) -> None:
    weak = replace(entrants[0], judged=tuple(replace(j, scores=j.scores / 2) for j in entrants[0].judged))
    bases = [Pick(e, e.judged[0]) for e in (entrants[0], weak)]
    keys = [(id(e), "full") for e in (entrants[0], weak)]
    seen = {
        keys[0]: HeldOutOutcome(np.full(8, 4.0), ("",) * 8, ()),
        keys[1]: HeldOutOutcome(np.full(8, 2.0), ("",) * 8, ()),
        (id(weak), "margin"): HeldOutOutcome(np.full(8, 1.0), ("",) * 8, ()),
        (id(entrants[0]), "margin"): HeldOutOutcome(np.full(8, 3.0), ("",) * 8, ()),
    }
    seconds = {key: np.full(8, s) for key, s in zip(seen, (4.0, 2.0, 1.0, 2.0), strict=True)}
    groups = [str(i // 2) for i in range(8)]
    table = comparison.ComparisonTable(seen, seconds, bases, groups, groups)
    picks = [Pick(e, next(j for j in e.judged if j.policy is MARGIN)) for e in (entrants[0], weak)]
    assert table.changes(picks) == pytest.approx((-0.25, -0.5))
    assert table.change(picks).mean == pytest.approx(-1 / 3)  # 2 of 3 on average
    assert table.time([seconds[id(p.entrant), "margin"] for p in picks], bases).mean == pytest.approx(0.5)


def test_a_seed_draws_clusters_anew_for_all_alike(entrants: list[Entrant]) -> None:
    drops = {
        comparison.drawn_quality(entrants, entrants[0].judged[2], seed)
        / comparison.drawn_quality(entrants, entrants[0].judged[0], seed)
        for seed in range(8)
    }
    assert {round(4 * (1 - drop) * 5) for drop in drops} > {0, 1}  # clusters of the loss: none, one, more
    alike = [comparison.drawn_quality(entrants, entrants[0].judged[i], 3) for i in (2, 3)]
    assert alike[0] == alike[1]


def test_modalities_leave_at_the_middle_of_their_gaps() -> None:
    def test(stack: str, depth: int, gap: float) -> ExitDecision:
        return ExitDecision(stack, depth, 0, (1 - gap,), (gap,), 1.0, False)

    trace = [test("image", 1, 0.2), test("image", 2, 0.1), test("decoder", 1, 0.5)]
    assert [p.name for p in modalities.policies([trace])] == ["image only"]
    found = modalities.policies([[*trace, test("text", 1, 0.4), test("text", 2, 0.3)]])
    assert [p.name for p in found] == ["image only", "text only", "both"]
    assert found[2].stack_exit("image").theta == pytest.approx(0.85) and found[2].stack_exit(
        "text"
    ).theta == pytest.approx(0.65)
    assert found[2].stack_exit("decoder").theta is None
