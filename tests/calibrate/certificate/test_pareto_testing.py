"""Freezing, walking, choosing; when latency is certified and when it is not; what the certificate says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mue_edge.calibrate.certificate import claim as certificates
from mue_edge.calibrate.certificate import pareto_testing
from mue_edge.calibrate.certificate.claim import Candidate, Certificate, Claim, Conditions, Frozen, Scope
from mue_edge.calibrate.certificate.pareto_testing import HeldOutScores, certify, freeze, pareto_front
from mue_edge.calibrate.metrics.clusters import Clusters
from mue_edge.errors import UsageError

SCOPE = Scope("some pictures", "f00d", "greedy", "fp32", "1234", "beef")
LIVE = Conditions("live", "a board", "onnxruntime 1.31", 1, "idle", "fixed")
QUALITY = Claim(max_drop=0.05, confidence=0.9)
BOTH = replace(QUALITY, budget=0.05)
NAMES = [str(i) for i in range(400)]


def candidate(name: str, p_quality: float, cost: float, p_latency: float = 0.0) -> Candidate:
    return Candidate(name, {"rule": "mue", "theta_decoder": 0.98}, p_quality, cost, 5.0, p_latency)


def held(worse: int, late: int | None = None) -> HeldOutScores:
    """400 pictures, `worse` of them fall from 6 to 1, `late` take longer than 50 ms."""
    full = np.full(400, 6.0)
    seconds = None if late is None else np.where(np.arange(400) < late, 0.06, 0.04)
    return HeldOutScores(full, np.where(np.arange(400) < worse, 1.0, 6.0), seconds)


# Slowest and best first. Up to 12 of 400 may be late; a drop of .8 % passes, one of 42 % does not.
STEPS = {"full": held(0, 400), "safe": held(2, 12), "quick": held(4, 3), "rash": held(200, 0)}


def frozen(claim: Claim = BOTH, conditions: Conditions | None = LIVE) -> Frozen:
    predicted = (("full", 0.0, 1.0), ("safe", 0.01, 0.04), ("quick", 0.02, 0.001), ("rash", 0.9, 0.0))
    steps = [candidate(name, p, 4.0 - i, late) for i, (name, p, late) in enumerate(predicted)]
    return freeze(steps, claim, SCOPE, conditions, smallest_drop=0.02)


def cost(one: Candidate) -> float:
    return one.cost


def run(fixed: Frozen, steps: dict[str, HeldOutScores] = STEPS) -> tuple[Certificate, list[str]]:
    asked: list[str] = []

    def measure(one: Candidate) -> HeldOutScores:
        asked.append(one.name)
        return steps[one.name]

    return certify(fixed, NAMES, measure, cost), asked


def test_front_keeps_what_nothing_beats_safest_first() -> None:
    predicted = {"slow": (0.001, 3, 0.9), "mid": (0.01, 2, 0.02), "fast": (0.03, 1, 0.0),
                "beaten": (0.02, 2.5, 0.02), "twin": (0.01, 2, 0.02)}  # fmt: skip
    kept = pareto_front([candidate(name, *figures) for name, figures in predicted.items()])
    assert [c.name for c in kept] == ["mid", "fast", "slow"]


def test_walk_certifies_both_claims_until_nothing_is_left_of_the_error() -> None:
    found, asked = run(frozen())
    # By the larger predicted p: quick .02, safe .04, rash .9, full 1.
    assert asked == ["quick", "safe", "rash"]
    assert [t.level for t in found.tested] == pytest.approx([0.075, 0.1, 0.1])
    assert [t.name for t in found.certified] == ["quick", "safe"]
    assert found.chosen == "quick"
    assert found.policy == {"rule": "mue", "theta_decoder": 0.98}
    quick = found.tested[0]
    assert (quick.late, quick.timed) == (3, 400)
    assert quick.drop == pytest.approx(4 * 5 / (400 * 6))
    assert quick.p == max(quick.p_quality, quick.p_latency or 0)
    assert certify(frozen(), NAMES, lambda c: STEPS[c.name], lambda c: -c.cost).chosen == "safe"


def test_one_failure_leaves_the_second_its_own_share() -> None:
    found, asked = run(frozen(), STEPS | {"quick": held(200, 0)})
    assert asked == ["quick", "safe"]  # which fails at a quarter of ε: 12 late of 400 give p .035
    assert [t.level for t in found.tested] == pytest.approx([0.075, 0.025])
    assert found.chosen == ""
    found, asked = run(frozen(), STEPS | {"quick": held(200, 0), "safe": held(2, 3)})
    assert asked == ["quick", "safe", "rash"]
    assert (found.chosen, found.tested[2].level) == ("safe", pytest.approx(0.025))


def test_the_primary_choice_is_tested_first_and_a_lone_one_at_the_whole_error() -> None:
    steps = list(frozen().candidates)
    fixed = freeze(steps, BOTH, SCOPE, LIVE, primary="rash", most=3)
    assert [c.name for c in fixed.candidates] == ["rash", "quick", "safe"]
    found, _ = run(freeze([c for c in steps if c.name == "safe"], BOTH, SCOPE, LIVE))
    assert (found.chosen, found.tested[0].level) == ("safe", 0.1)
    with pytest.raises(UsageError, match="primary choice 'other' is none of quick"):
        freeze(steps, BOTH, SCOPE, LIVE, primary="other")


def test_favourite_is_the_best_that_is_predicted_to_keep_the_budget() -> None:
    slow, mid, fast = (
        candidate(name, 0.0, cost, late)
        for name, cost, late in (("slow", 3, 0.5), ("mid", 2, 0.07), ("fast", 1, 0.001))
    )
    better = [replace(c, quality=q) for c, q in ((slow, 6.0), (mid, 5.5), (fast, 5.0))]
    assert pareto_testing.favourite(better, BOTH).name == "mid"
    assert pareto_testing.favourite([better[0], replace(better[1], p_latency=0.2)], BOTH).name == "mid"
    assert pareto_testing.favourite(better[:1], BOTH).name == "slow"


def test_one_false_claim_is_enough_to_fail() -> None:
    slow = STEPS | {"quick": held(4, 30), "safe": held(2, 30)}
    found, asked = run(frozen(), slow)
    assert asked == ["quick", "safe"]
    assert found.chosen == "" == found.policy.get("rule", "")
    assert found.statement.startswith("Nothing is certified on 400 clusters")
    assert "cannot be expected" not in found.statement
    few = replace(frozen(), smallest_drop=0.07)
    assert "0.07 cannot be expected" in run(few, slow)[0].statement


@pytest.mark.parametrize(
    ("kind", "words"), [("estimate", "the times are an estimate"), ("simulation", "the times are a simulation")]
)
def test_no_certificate_of_latency_from_an_estimate(kind: str, words: str) -> None:
    untimed = {name: replace(step, seconds=None) for name, step in STEPS.items()}
    found, asked = run(frozen(conditions=replace(LIVE, kind=kind)), untimed)
    # Without times the order is by quality, and full depth is tested first.
    assert asked == ["full", "safe", "quick", "rash"]
    assert not found.covers_latency
    assert all(t.p_latency is None for t in found.tested)
    assert f"There is no certificate of latency: {words}" in found.statement
    assert "ms" not in found.statement


def test_statement_says_what_was_shown_and_where_it_ends() -> None:
    words = run(frozen())[0].statement
    for part in (
        "confidence 0.9",
        "'quick'",
        "less than 0.05 of full depth's CIDEr-D",
        "0.95 of the captions",
        "50 ms",
        "a board",
        "threads: 1",
        "load: idle",
        "clocks: fixed",
        "mean over clusters",
        "greedy",
        "fp32",
        "plan 1234",
        "void for any other",
    ):
        assert part in words
    assert "latency" not in run(frozen(QUALITY, None), STEPS)[0].statement


def test_consistency_is_an_exact_binomial_on_one_picture_a_cluster() -> None:
    same = np.where(np.arange(400) < 13, 0.0, 1.0)
    fixed = frozen(replace(QUALITY, loss="consistency"), None)
    found, _ = run(fixed, {name: HeldOutScores(np.ones(400), same) for name in STEPS})
    assert found.tested[0].p_quality == pytest.approx(0.0617, abs=1e-3)  # P(Bin(400, .05) ≤ 13)
    assert found.tested[0].drop == pytest.approx(13 / 400)
    assert "consistency, not quality" in found.statement
    assert "CIDEr" not in found.statement
    with pytest.raises(UsageError, match="1 where the caption"):
        run(fixed, STEPS)


def test_predicted_quality_p_orders_as_the_tests_do() -> None:
    groups = Clusters(NAMES)
    predicted = [pareto_testing.predicted_quality_p(held(w), groups, QUALITY, 300) for w in (2, 4, 30, 200)]
    assert predicted == sorted(predicted)
    assert predicted[1] < 0.1 < 0.5 < predicted[3]
    assert pareto_testing.predicted_quality_p(held(0), groups, QUALITY, 300) == 0
    late = [pareto_testing.predicted_latency_p(share, BOTH, 400) for share in (0.0, 0.03, 0.05, 0.2)]
    assert late == sorted(late)
    assert late[0] < 1e-8
    assert late[3] > 0.99


def test_the_fingerprint_holds_everything() -> None:
    fixed = frozen()
    found, _ = run(fixed)
    assert found.candidates == fixed.fingerprint() != frozen(QUALITY).fingerprint()
    data = certificates.to_json(found)
    assert data["schema"] == 2 and data["statement"] == found.statement == certificates.state(found)


def test_misuse_is_named() -> None:
    one = candidate("a", 0.1, 1)
    with pytest.raises(UsageError, match="distinct names"):
        freeze([one, one], QUALITY, SCOPE)
    with pytest.raises(UsageError, match="belongs to plan 9"):
        freeze([replace(one, policy={"plan": "9"})], QUALITY, SCOPE)
    with pytest.raises(UsageError, match="no numbers"):
        freeze([replace(one, cost=float("nan"))], QUALITY, SCOPE)
    with pytest.raises(UsageError, match="live seconds of every picture"):
        run(frozen(), STEPS | {"quick": held(4)})
    for bad in ({"max_drop": 0.0}, {"confidence": 1.0}, {"loss": "bleu"}, {"budget": -1.0}, {"share": 1.0}):
        with pytest.raises(UsageError):
            replace(QUALITY, **bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="none of live"):
        replace(LIVE, kind="guess")
