"""Candidate policies: what is enumerated, and that schedules end where they should."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mue_edge.calibrate.policies.candidates import (
    LEVELS,
    by_modality,
    by_rule,
    distances,
    fixed,
    levels,
    schedule,
    similarity,
    with_text,
)
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import ExitDecision, Layout, Stack, Stage
from tests.layouts import layout, stages


def _trace(scale: float) -> list[ExitDecision]:
    def decision(stack: str, depth: int, step: int, gap: float) -> ExitDecision:
        return ExitDecision(stack, depth, step, (1 - gap,), (gap,), 2.0, False)

    image = [decision("image", depth, 0, scale * 1e-3 / depth) for depth in (1, 2)]
    return image + [decision("decoder", depth, step, scale * 1e-2 / depth) for step in range(4) for depth in (1, 2)]


def made(image: int, decoder: int) -> Layout:
    return layout(stages("image", image), stages("decoder", decoder))


TEXT = Stack("text", "text", stages("text", 3), "text_stem")
TRACES = [_trace(1 + i / 10) for i in range(20)]


def test_distances_by_stack_and_time() -> None:
    found = distances(TRACES, "image")
    assert len(found.picture) == 40
    assert (len(found.decoder), len(found.first), len(found.late)) == (160, 40, 80)


def test_fixed_depths_are_all_pairs_but_the_full_one() -> None:
    policies = list(fixed(made(3, 2)))
    assert {(p.stack_exit("image").depth, p.stack_exit("decoder").depth) for p in policies} == {
        (i, d) for i in (1, 2, None) for d in (1, None)
    } - {(None, None)}
    whole = layout((Stage("image.0", 3),), stages("decoder", 4))
    assert [p.stack_exit("decoder").depth for p in fixed(whole)] == [1, 2, 3]  # an encoder in one segment stays whole


def test_a_schedule_runs_between_its_distances() -> None:
    policy = schedule("mue", 0.002, 0.05, 17)
    assert 1 - policy.threshold("decoder", 1, 0, 16) == pytest.approx(0.002)
    assert 1 - policy.threshold("decoder", 1, 17, 16) == pytest.approx(0.05)
    assert schedule("mue", 0.01, 0.01, 17).beta == 1


def test_thresholds_lie_among_the_distances_and_names_are_unique() -> None:
    found = distances(TRACES, "image")
    policies = list(similarity("mue", found, made(3, 3), 17))
    names = [p.name for p in policies]
    assert len(set(names)) == len(names)
    assert Policy("mue") not in policies
    thetas = [p.stack_exit("decoder").theta for p in policies if p.name.startswith("mue-full-q")]
    constant = [t for t in thetas if t is not None]
    assert all(min(found.decoder) < 1 - t < max(found.decoder) for t in constant)
    assert constant == sorted(constant, reverse=True)
    from_two = next(p for p in policies if p.name == "mue-d1-q0.6-from2")
    assert from_two.threshold("image", 1) == -float("inf")
    assert from_two.threshold("decoder", 1) == float("inf") > from_two.threshold("decoder", 2)


def test_an_encoder_of_another_name_is_left_by_score_where_its_plan_has_boundaries() -> None:
    """Also one that was not trained for it: calibration decides whether that pays."""
    joint = [replace(d, stack="encoder") if d.stack == "image" else d for d in TRACES[0]]
    for count in (1, 3):
        ends = stages("encoder", count)
        stack = Stack("encoder", "picture", ends, "stem", joins="text_stem", trained=False)
        whole = Layout((stack, made(3, 3).decoder), 1, 17, 4)
        traced = [[d for d in joint if d.stack != "encoder" or d.depth < count]]
        policies = list(by_rule(traced, whole, 17))
        assert any(p.stack_exit("encoder").theta is not None for p in policies) == (count > 1)
        assert any(p.stack_exit("encoder").depth is not None for p in policies) == (count > 1)
        assert not {stack for p in policies for stack in p.exits} - {"encoder", "decoder"}


def test_boundaries_have_thresholds_of_their_own_and_a_last_layer() -> None:
    found = distances(TRACES, "image")
    assert {depth: len(own) for depth, own in found.boundaries.items()} == {1: 80, 2: 80}
    policies = {p.name: p for p in similarity("mue", found, made(3, 3), 17)}
    capped, open_ended = policies["mue-d1-b0.4-to2"], policies["mue-d1-b0.4"]
    first, second = (1 - open_ended.threshold("decoder", depth) for depth in (1, 2))
    # The second boundary's distances are half as wide as the first's.
    assert first == pytest.approx(2 * second) and min(found.boundaries[1]) < first < max(found.boundaries[1])
    assert 1 - capped.threshold("decoder", 1) == first and capped.threshold("decoder", 2) == -float("inf")
    assert "mue-d1-b0.4-to3" not in policies  # that is all layers


def test_levels_are_of_the_first_boundary_and_the_ends_of_the_encoder() -> None:
    found = distances(TRACES, "image")
    policies = list(levels("calm-softmax", found, made(6, 6)))
    assert len({p.name for p in policies}) == len(policies) == len(LEVELS) * 3 * 4
    assert {(p.stack_exit("image").depth, p.stack_exit("decoder").depth) for p in policies} == {
        (image, last) for image in (1, 2, 5, None) for last in (2, 3, None)
    }
    thetas = [
        p.stack_exit("decoder").theta
        for p in policies
        if p.name.startswith("calm-softmax-d1") and p.stack_exit("decoder").depth == 2
    ]
    passed = [sum(gap < 1 - t for gap in found.boundaries[1]) / 80 for t in thetas if t is not None]
    assert passed == pytest.approx(LEVELS, abs=0.04)
    whole = layout((Stage("image.0", 6),), stages("decoder", 6))
    assert all(p.stack_exit("image").depth is None for p in levels("deebert", found, whole))
    assert not list(levels("deebert", distances(TRACES, "image", "margin"), made(6, 6)))  # it was not traced


def test_a_text_stack_leaves_alone_and_with_the_others() -> None:
    text = [ExitDecision("text", 1, 0, (1 - gap,), (gap,), 2.0, False) for gap in (0.1, 0.2, 0.3, 0.4)]
    found = list(with_text([Policy("fixed", {"image": StackExit(depth=1)}, name="fixed-1-3")], [text], TEXT))
    assert [p.name for p in found if p.rule == "fixed"] == [
        "fixed-text1",
        "fixed-text2",
        "fixed-1-3-text1",
        "fixed-1-3-text2",
    ]
    alone = [p for p in found if p.rule == "mue"]
    assert alone[0].stack_exit("text").depth == 1
    assert [p.stack_exit("text").theta for p in alone[1:]] == pytest.approx([0.85, 0.75, 0.65])
    assert all(p.may_exit for p in found)


def test_rules_without_a_test_of_the_text_leave_it_at_a_depth() -> None:
    text = [ExitDecision("text", 1, 0, (0.5,), (0.5,), 0.0, False)]
    found = [
        p for p in with_text([Policy("gate", {"image": StackExit(0.5)}, name="gate")], [text], TEXT) if p.rule == "gate"
    ]
    assert [(p.stack_exit("text").depth, p.stack_exit("text").theta) for p in found] == [(1, None)]


def test_modalities_exit_at_the_middle_of_their_distances() -> None:
    def test(stack: str, depth: int, distance: float) -> ExitDecision:
        return ExitDecision(stack, depth, 0, (1 - distance,), (distance,), 1.0, False)

    trace = [test("image", 1, 0.2), test("image", 2, 0.1), test("decoder", 1, 0.5)]
    assert [p.name for p in by_modality([trace])] == ["image only"]
    found = by_modality([[*trace, test("text", 1, 0.4), test("text", 2, 0.3)]])
    assert [p.name for p in found] == ["image only", "text only", "both"]
    assert found[2].stack_exit("image").theta == pytest.approx(0.85) and found[2].stack_exit(
        "text"
    ).theta == pytest.approx(0.65)
    assert found[2].stack_exit("decoder").theta is None
