"""Deadline mode on a made-up clock: it walks the front, holds the limit, and else changes nothing."""

from __future__ import annotations

import random

import pytest

from mue_edge.errors import UsageError
from mue_edge.loop.caption_loop import caption_loop
from mue_edge.loop.deadline import Deadline
from mue_edge.loop.driver import drive
from mue_edge.loop.policy import Policy
from mue_edge.loop.protocol import Outcome, PolicyChange
from mue_edge.loop.search import BeamSearch, SearchSettings
from mue_edge.loop.speed import SpeedEstimate
from tests.clocks import BALANCED, COSTS, FAST, FULL, LAYERS, Clocked, at_random, bursts, caption, layout


def many(
    runtime: Clocked, limit: float, count: int, faster: tuple[Policy, ...] = (FAST, BALANCED)
) -> list[tuple[Outcome, float, float]]:
    """Captions after one another: the outcome, the seconds that it took, and those of its last segment."""
    pace, found = SpeedEstimate(), []
    for _ in range(count):
        outcome = caption(runtime, limit, pace, faster=faster)
        found.append((outcome, runtime.now - runtime.ran[0][1], runtime.ran[-1][2]))
    return found


@pytest.mark.parametrize("policy", [FULL, BALANCED, FAST], ids=lambda p: p.name)
@pytest.mark.parametrize(("rows", "ahead"), [(1, False), (1, True), (3, False), (3, True)])
def test_a_generous_deadline_changes_nothing(policy: Policy, rows: int, ahead: bool) -> None:
    plain, timed = (Clocked(5, rows=rows, ahead=ahead) for _ in range(2))
    pace = SpeedEstimate()
    for _ in range(10):
        free = caption(plain, None, pace, policy)
        due = caption(timed, 60.0, pace, policy)
        assert [run for run, *_ in timed.ran] == [run for run, *_ in plain.ran]
        assert (due.hypotheses, due.depths, due.steps) == (free.hypotheses, free.depths, free.steps)
        assert free.deadline is None and due.deadline is not None
        assert not due.deadline.hurried and not due.deadline.cut_short
        assert due.deadline.changes == (PolicyChange("image", 0, 0, policy.name),)
        assert due.deadline.finished == pytest.approx(sum(seconds for *_, seconds in timed.ran))


def test_nothing_starts_after_the_deadline_whatever_the_clock_does() -> None:
    """200 random clocks, limits from nearly nothing on, beams and drivers that run ahead among them."""
    cut = 0
    for seed in range(200):
        draw = random.Random(seed)
        slow = bursts(seed, draw.uniform(2, 50), tuple(COSTS)) if seed % 2 else at_random(seed, 20.0)
        runtime = Clocked(seed, slow, rows=1 + 2 * (seed % 3 == 0), ahead=seed % 5 < 2)
        limit = draw.choice([0.001, 0.01, 0.03, 0.06, 0.12])
        for outcome, seconds, last in many(runtime, limit, 3):
            assert seconds <= limit + last + 1e-9
            assert outcome.deadline is not None
            assert outcome.deadline.finished == pytest.approx(seconds)
            best = outcome.hypotheses[0].tokens
            assert best[-1] == 2
            if outcome.deadline.cut_short and runtime.rows == 1:
                assert len(best) == len(outcome.steps) + 1
            cut += outcome.deadline.cut_short
    assert 100 < cut < 550  # both kinds of end were seen


@pytest.mark.parametrize("name", ["bursts", "random"])
def test_a_slow_moment_costs_depth_and_not_the_end(name: str) -> None:
    found = many(Clocked(1, bursts(3) if name == "bursts" else at_random(3)), 0.09, 150)[50:]
    pacings = [outcome.deadline for outcome, *_ in found if outcome.deadline]
    assert sum(seconds <= 0.09 for _, seconds, _ in found) >= 98
    assert sum(p.cut_short for p in pacings) <= 5
    assert sum(p.hurried for p in pacings) >= 10
    # Whoever has no faster policies is cut instead.
    alone = many(Clocked(1, bursts(3) if name == "bursts" else at_random(3)), 0.09, 150, ())[50:]
    cut = [outcome.deadline.cut_short for outcome, *_ in alone if outcome.deadline]
    assert sum(cut) > 2 * sum(p.cut_short for p in pacings) + 5


def test_it_goes_faster_within_a_caption_and_back_in_the_next() -> None:
    slow = {"on": False}
    runtime = Clocked(2, lambda run: 8.0 if slow["on"] and run.startswith("decoder") else 1.0)
    pace = SpeedEstimate()
    for _ in range(60):
        caption(runtime, 0.08, pace)
    slow["on"] = True
    hurried = caption(runtime, 0.08, pace)
    assert hurried.deadline is not None and hurried.deadline.changes[0].policy == "full"
    assert hurried.deadline.changes[-1].policy == "fast"
    assert any(move.stack == "decoder" for move in hurried.deadline.changes)
    slow["on"] = False
    after = [caption(runtime, 0.08, pace) for _ in range(3)][-1]
    assert after.deadline is not None and after.deadline.changes[-1].policy == "full"


def test_what_a_policy_would_have_run_is_learnt_while_another_runs() -> None:
    pace, runtime = SpeedEstimate(), Clocked(3)
    for _ in range(40):
        caption(runtime, 60.0, pace)  # full depth throughout
    fast, balanced = (pace.depths(repr(p)) for p in (FAST, BALANCED))
    alone = Clocked(3)
    runs = [caption(alone, None, SpeedEstimate(), FAST) for _ in range(40)]
    mean = sum(s.depth for o in runs for s in o.steps) / sum(len(o.steps) for o in runs)
    assert fast["decoder"] == pytest.approx(mean, abs=0.5)
    assert fast["decoder"] < balanced["decoder"] < LAYERS
    assert fast["image"] < balanced["image"] <= LAYERS


def test_a_layer_that_ran_ahead_of_a_forced_exit_counts_as_done() -> None:
    """A forced exit is an exit: rows that running ahead stored are not filled again."""
    fills = {}
    for ahead in (False, True):
        slow = {"on": False}
        runtime = Clocked(4, lambda run, s=slow: 6.0 if s["on"] else 1.0, ahead=ahead)
        pace = SpeedEstimate()
        for i in range(40):
            slow["on"] = i % 2 == 1
            outcome = caption(runtime, 0.07, pace)
            for run, *_ in runtime.ran:
                fills[ahead] = fills.get(ahead, 0) + run.startswith("fill.1")
            assert outcome.hypotheses
    assert fills.get(True, 0) <= fills.get(False, 0)


def test_a_time_that_was_gone_before_the_loop_gives_an_empty_caption() -> None:
    runtime = Clocked(6)
    outcome = caption(runtime, 0.05, SpeedEstimate(), spent=0.06)
    assert runtime.ran == [] and outcome.calls == 0 and outcome.steps == ()
    assert outcome.hypotheses[0].tokens == (2,) and outcome.depths == {"image": 0, "text": 0}
    assert outcome.deadline is not None and outcome.deadline.cut_short
    assert outcome.deadline.finished == pytest.approx(0.06)


def test_an_encoder_that_leaves_no_time_for_a_token_is_left() -> None:
    runtime = Clocked(7)
    pace = SpeedEstimate()
    for _ in range(3):
        caption(runtime, 1.0, pace)
    late = caption(runtime, 0.0095, pace, faster=())
    assert late.deadline is not None and late.deadline.forced >= 1
    assert 1 <= late.depths["image"] < LAYERS
    assert len(late.steps) >= 1  # a token was given
    assert [d.threshold for d in late.decisions if d.stack == "image" and d.exit] == [float("-inf")]


def test_a_clock_that_is_not_the_callers() -> None:
    runtime = Clocked(8)
    loop = caption_loop(layout(), FULL, BeamSearch(SearchSettings()), deadline=Deadline(runtime.now + 99, 0.05))
    with pytest.raises(UsageError, match="run without a deadline"):
        drive(loop, runtime)
