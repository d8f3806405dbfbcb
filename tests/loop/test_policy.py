"""Policies: schedules, rules, reading."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mue_edge.bundle.policy_files import from_json, read
from mue_edge.errors import InputFileError, UsageError
from mue_edge.loop.policy import ALWAYS, NEVER, ForcedExits, Policy, StackExit, should_exit


def test_slide_formula() -> None:
    policy = Policy("mue", {"decoder": StackExit(0.9)}, beta=0.8, tau=2.0)
    expected = 0.8 * 0.9 + 0.2 * math.exp(-2 * 5 / 17)
    assert policy.threshold("decoder", 1, step=5, max_length=16) == pytest.approx(expected)


def test_published_schedule() -> None:
    """Values of the authors' code for theta = 0.9: never before step 6, .876 at 6, .847 at 16."""
    policy = Policy("mue-published", {"decoder": StackExit(0.9)})
    values = [policy.threshold("decoder", 1, step=t, max_length=16) for t in range(17)]
    assert values[:6] == [NEVER] * 6
    assert values[6] == pytest.approx(0.876, abs=1e-3)
    assert values[16] == pytest.approx(0.847, abs=1e-3)


@pytest.mark.parametrize("theta", [None, 1.0, 5.0])
def test_thresholds_of_one_and_more_never_exit(theta: float | None) -> None:
    policy = Policy("mue", {"image": StackExit(theta), "text": StackExit(theta), "decoder": StackExit(theta)})
    for stack in ("image", "text", "decoder"):
        assert policy.threshold(stack, 3) == NEVER


def test_warm_up_and_minimum_depth() -> None:
    policy = Policy("mue", {"image": StackExit(0.5), "decoder": StackExit(0.5)}, warmup=0.5, min_depth=2, beta=1.0)
    assert policy.threshold("image", 1) == NEVER and policy.threshold("image", 2) == 0.5
    assert policy.threshold("decoder", 2, step=8, max_length=16) == NEVER
    assert policy.threshold("decoder", 2, step=9, max_length=16) == 0.5


def test_fixed_and_forced() -> None:
    fixed = Policy("fixed", {"image": StackExit(depth=2)})
    assert [fixed.threshold("image", d) for d in (1, 2, 3)] == [NEVER, ALWAYS, ALWAYS]
    assert fixed.threshold("decoder", 6) == NEVER
    forced = ForcedExits({"image": 1}, (3, 1))
    assert forced.threshold("image", 1) == ALWAYS
    assert forced.threshold("decoder", 2, step=0) == NEVER
    assert forced.threshold("decoder", 1, step=1) == ALWAYS


def test_a_depth_ends_a_stack_under_every_rule_but_never() -> None:
    policy = Policy("mue", {"image": StackExit(0.9, depth=3), "decoder": StackExit(0.9, depth=2)}, beta=1.0)
    assert [policy.threshold("image", d) for d in (1, 2, 3, 4)] == [0.9, 0.9, ALWAYS, ALWAYS]
    assert [policy.threshold("decoder", d) for d in (1, 2)] == [0.9, ALWAYS]
    assert policy.threshold("text", 5) == NEVER
    assert Policy("never", {"image": StackExit(depth=1)}).threshold("image", 1) == NEVER
    assert not Policy("never", {"image": StackExit(depth=1)}).may_exit


def test_a_theta_for_every_boundary() -> None:
    policy = Policy(
        "mue",
        {"image": StackExit(thetas=(None, 0.9, 1.5), theta=0.1), "decoder": StackExit(thetas=(0.5, None))},
        beta=0.5,
    )
    assert [policy.threshold("image", d) for d in (1, 2, 3, 4)] == [NEVER, 0.9, NEVER, NEVER]
    assert policy.threshold("decoder", 1, step=0) == pytest.approx(0.75)
    assert policy.threshold("decoder", 2, step=0) == NEVER
    assert policy.may_exit and not Policy("mue", {"image": StackExit(thetas=(None, 1.0))}).may_exit
    assert from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_the_exit_test_is_strict_and_uses_the_gap() -> None:
    assert not should_exit(0.9, None, 0.9) and should_exit(0.91, None, 0.9)
    assert should_exit(1.0, 1e-9, 1 - 1e-8) and not should_exit(1.0, 1e-7, 1 - 1e-8)
    assert should_exit(0.0, 1.0, ALWAYS) and not should_exit(2.0, -1.0, NEVER)


def test_json_round_trip(tmp_path: Path) -> None:
    policy = Policy("mue", {"image": StackExit(0.99), "decoder": StackExit(0.9)}, beta=0.95, name="fast", plan="abc")
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(policy.to_json()))
    assert read(path) == policy


def test_what_is_foretold_is_kept_and_decides_nothing() -> None:
    told, bare = (
        Policy("mue", {"image": StackExit(0.9)}, seconds=0.02, quality=1.01),
        Policy("mue", {"image": StackExit(0.9)}),
    )
    again = from_json(json.loads(json.dumps(told.to_json())))
    assert (again.seconds, again.quality) == (0.02, 1.01) and "seconds" not in bare.to_json()
    assert told == bare and hash(told) == hash(bare)
    assert told.threshold("image", 1) == bare.threshold("image", 1)


@pytest.mark.parametrize(
    "data",
    [
        [], {"rule": "mu"}, {"theta": 1}, {"theta_image": "0.9"}, {"min_depth": 0}, {"horizon": 1.5},
        {"beta": None}, {"theta_image": True}, {"theta_decoder": float("nan")}, {"beta": 1.1}, {"beta": -0.1},
        {"tau": -1}, {"warmup": 2}, {"depth_image": 0}, {"thetas_image": 0.5}, {"thetas_image": ["0.5"]},
        {"thetas_decoder": [float("inf")]}, {"seconds": 0}, {"seconds": -1.0}, {"quality": -0.1},
        {"quality": float("nan")}, {"seconds": "0.1"},
    ],
)  # fmt: skip
def test_bad_policies_are_named(data: object) -> None:
    with pytest.raises(InputFileError):
        from_json(data)


def test_unknown_rule_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="mue-published"):
        Policy("mu")


def test_numbers_that_are_too_large(tmp_path: Path) -> None:
    for value in (10**400, -(10**400), float("inf")):
        with pytest.raises(UsageError, match="not a finite number"):
            Policy("mue", {"decoder": StackExit(value)})
        with pytest.raises(InputFileError, match="not a finite number"):
            from_json({"rule": "mue", "thetas_image": [value]})
    path = tmp_path / "p.json"
    path.write_text('{"rule": "mue", "beta": 7}')
    with pytest.raises(InputFileError, match=rf"^{path}: .*beta"):
        read(path)
