"""What is kept at a share of the time, and exits against fixed depths."""

from __future__ import annotations

import numpy as np

from mue_edge.calibrate.policies import savings
from mue_edge.calibrate.policies.evaluator import PolicyOutcome
from mue_edge.calibrate.policies.signals import SignalQuality
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.sessions.captioner import FULL

OWN = Policy("mue", {"image": StackExit(0.9), "decoder": StackExit(0.95)}, name="own")
ENDED = Policy("mue", {"decoder": StackExit(0.95), "image": StackExit(depth=1)}, name="ended")
LATER = Policy("mue", {"decoder": StackExit(thetas=(None, 0.9))}, name="later")
SHALLOW = Policy("fixed", {"image": StackExit(depth=1), "decoder": StackExit(depth=1)}, name="fixed-1-1")
DEEP = Policy("fixed", {"decoder": StackExit(depth=2)}, name="fixed-3-2")


def outcome(policy: Policy, seconds: float, quality: float) -> PolicyOutcome:
    return PolicyOutcome(policy, (), ("",) * 4, np.full(4, quality), np.full(4, seconds), quality, quality)


ALL = [
    outcome(FULL, 10.0, 5.0), outcome(OWN, 6.0, 4.6), outcome(ENDED, 5.0, 4.9), outcome(LATER, 5.0, 4.7),
    outcome(SHALLOW, 2.0, 3.0), outcome(DEEP, 7.0, 4.8),
]  # fmt: skip


def test_published_policies_have_one_theta_a_stack_and_no_fixed_end() -> None:
    assert [savings.is_published_mue(p) for p in (FULL, OWN, ENDED, LATER, SHALLOW)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_best_within_a_time() -> None:
    def name(found: PolicyOutcome | None) -> str | None:
        return None if found is None else found.policy.name

    assert name(savings.best_within(ALL, 6.0)) == "ended"
    published = [o for o in ALL if savings.is_published_mue(o.policy)]
    assert name(savings.best_within(published, 6.0)) == "own"
    assert name(savings.best_within(ALL, 4.9)) == "fixed-1-1"
    assert savings.best_within(published, 4.9) is None


def test_duels_take_the_fastest_rival_of_no_less_quality() -> None:
    fast, deep = savings.duels(ALL)
    assert (fast.fixed.policy.name, deep.fixed.policy.name) == ("fixed-1-1", "fixed-3-2")
    assert fast.rival is not None and fast.rival.policy.name == "ended" and not fast.won
    assert deep.rival is not None and deep.rival.policy.name == "ended"
    assert deep.ratio == 5 / 7 and deep.won
    # At the margin itself it is won; a rival that is a hair slower does not win.
    near = [outcome(DEEP, 10.0, 4.0), outcome(ENDED, 9.0, 4.0)]
    assert savings.duels(near)[0].won
    assert not savings.duels([near[0], outcome(ENDED, 9.01, 4.0)])[0].won
    assert savings.duels([near[0], outcome(ENDED, 1.0, 3.9)])[0].rival is None


def test_the_verdict_says_why_not_all_are_beaten() -> None:
    signals = (
        SignalQuality("image", 1, 3, 1, 0.5),
        SignalQuality("decoder", 1, 3, 1, 0.61),
        SignalQuality("decoder", 2, 4, 0, None),
    )
    words = savings.verdict(savings.duels(ALL), signals)
    assert "1 of 2 pairs" in words and "fixed-1-1" in words and "0.61" in words and "fewer layers" in words
    won = savings.verdict(savings.duels(ALL)[1:], signals)
    assert "1 of 1 pairs" in won and "not beat" not in won
