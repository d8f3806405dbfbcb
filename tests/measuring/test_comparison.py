"""Paired ratios, the A/A control's verdict, and policies that come from traces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import ExitDecision
from mue_edge.loop.replay import exit_distances, quantile_policy
from mue_edge.measuring import bench
from mue_edge.measuring.bench import Quartiles, TimeSample, control_problem, interleave, quartiles, ratios


def test_quartiles() -> None:
    assert quartiles([3.0, 1.0, 2.0, 5.0, 4.0]) == Quartiles(3, 2, 4)
    assert quartiles([2.0]) == Quartiles(2, 2, 2)


def test_ratios_pair_the_samples_of_a_round() -> None:
    # The machine slows down ninefold; the pairs do not see it.
    reference = [TimeSample(1, 10), TimeSample(3, 10), TimeSample(9, 10)]
    system = [TimeSample(0.5, 10), TimeSample(1.5, 20), TimeSample(4.5, 30)]
    assert ratios(system, reference) == Quartiles(0.5, 0.5, 0.5)
    assert ratios(system, reference, "wall") == Quartiles(2, 1.5, 2.5)


@pytest.mark.parametrize(
    ("ratio", "fine"),
    [
        (Quartiles(1.0, 0.91, 1.09), True),
        (Quartiles(1.049, 1.0, 1.1), True),
        (Quartiles(1.0, 0.89, 1.0), False),
        (Quartiles(1.0, 1.0, 1.11), False),
        (Quartiles(1.06, 1.0, 1.09), False),
        (Quartiles(0.94, 0.92, 1.0), False),
        (Quartiles(float("nan"), float("nan"), float("nan")), False),
    ],
)
def test_the_control_decides(ratio: Quartiles, fine: bool) -> None:
    assert (control_problem(ratio) is None) is fine


def test_a_system_elsewhere_says_its_own_time() -> None:
    assert bench.sample(lambda: TimeSample(3, 4)) == TimeSample(3, 4)
    assert isinstance(bench.sample(lambda: 5), TimeSample)


def test_systems_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(bench.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: 2 * clock[0])
    seen: list[tuple[str, int]] = []

    def system(name: str, seconds: float) -> bench.System:
        def work(i: int) -> None:
            seen.append((name, i))
            clock[0] += seconds

        return work

    systems = {"a": system("a", 0.01), "b": system("b", 0.02)}
    samples = interleave(systems, "a", range(3, 7), warm_up=1)
    assert [s.cpu for s in samples["a"]] == pytest.approx([0.01] * 4)
    assert [s.wall for s in samples["b"]] == pytest.approx([0.04] * 4)
    work = seen[3:]  # after a warm-up each, and the reference's time
    repeats = round(bench.SAMPLE_SECONDS / 0.01)
    assert len(work) == 4 * repeats * 2
    turns = [work[i : i + 2] for i in range(0, len(work), 2)]
    assert all({name for name, _ in turn} == {"a", "b"} for turn in turns)
    assert {turn[0][0] for turn in turns} == {"a", "b"}  # neither always goes first
    assert [i for _, i in work] == sorted(i for _, i in work) and {i for _, i in work} == {3, 4, 5, 6}


def test_policies_are_timed_by_picture_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(bench.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: 2 * clock[0])
    calls: list[tuple[str, int]] = []

    class Timed:
        def run(self, picture: int, source: tuple[int, ...], policy: Policy) -> None:
            calls.append((policy.name, picture))
            clock[0] += picture * (1.0 if policy.name == "full" else 0.5)

    runs: Any = [(Timed(), Policy("never", name=name)) for name in ("full", "early")]
    samples, steps = [SimpleNamespace(picture=i, source=()) for i in (1, 2, 4)], list[int]()
    seconds = bench.policy_seconds(runs, samples, clock="cpu", progress=lambda: steps.append(1))
    assert seconds.tolist() == [[1, 2, 4], [0.5, 1, 2]] and len(steps) == 3
    assert bench.policy_seconds(runs, samples).tolist() == [[2, 4, 8], [1, 2, 4]]
    assert [picture for _, picture in calls[6:12]] == [1, 1, 2, 2, 4, 4]


def decision(stack: str, *gaps: float) -> ExitDecision:
    return ExitDecision(stack, 1, 0, tuple(1 - g for g in gaps), gaps, float("inf"), False)


def test_a_policy_that_half_of_the_tests_would_pass() -> None:
    decisions = [decision("image", g) for g in (0.1, 0.2, 0.3, 0.4)]
    decisions += [decision("decoder", 0.01, 0.05), decision("decoder", 0.03, 0.02)]
    policy = quantile_policy(exit_distances(decisions), 0.5, "half", "a-plan")
    assert policy.stack_exit("image").theta == pytest.approx(0.75)
    assert policy.stack_exit("decoder").theta == pytest.approx(0.96)  # the worst row of a step counts
    assert (policy.stack_exit("text").theta, policy.beta, policy.name, policy.plan) == (None, 1.0, "half", "a-plan")
    assert policy.threshold("decoder", 1, 9) == pytest.approx(0.96)


def test_quantiles_lie_between_observed_gaps() -> None:
    tests = [("image", g / 10) for g in range(1, 8)]
    for quantile in (0.0, 0.3, 0.5, 1.0):
        theta = quantile_policy(tests, quantile, "q").stack_exit("image").theta
        assert theta is not None and min(abs(1 - theta - g) for _, g in tests) > 0.04


def test_which_policies_may_exit() -> None:
    assert not Policy("never", {"decoder": StackExit(0.5)}).may_exit
    assert not Policy("mue").may_exit
    assert not Policy("mue", {"decoder": StackExit(1.0)}).may_exit
    assert Policy("mue", {"image": StackExit(0.0)}).may_exit
    assert (
        Policy("fixed", {"text": StackExit(depth=1)}).may_exit
        and not Policy("fixed", {"text": StackExit(0.5)}).may_exit
    )


def test_the_bundle_s_own_policy_goes_first(tiny_bundle: Path) -> None:
    import mue_edge

    mild, wild = ({"rule": "mue", "theta_decoder": t, "name": n} for t, n in ((0.9, "mild"), (0.1, "wild")))
    full = {"rule": "never", "name": "full"}
    with mue_edge.open(tiny_bundle, threads=1) as captioner:
        opened = captioner.bundle
        for chosen, wanted in (("wild", "wild"), ("full", "mild")):
            manifest = replace(opened.manifest, front=(wild, mild, full), chosen=chosen)
            captioner.bundle = replace(opened, manifest=manifest)
            assert bench.exiting_policy(captioner, [])[0].name == wanted
