"""What is learnt from the clock."""

from __future__ import annotations

import pytest

from mue_edge.loop.speed import CUT, SpeedEstimate


def test_a_segment_that_was_never_called_costs_what_its_kind_does() -> None:
    pace = SpeedEstimate({"decoder.0": 1.0, "decoder.1": 3.0})
    assert pace.seconds("decoder.1") == 3.0
    assert pace.seconds("decoder.2") == 2.0
    assert pace.seconds("head") == 0.0


def test_a_slow_moment_is_expected_of_the_kind_and_soon_over() -> None:
    pace = SpeedEstimate({"decoder.0": 1.0, "decoder.1": 3.0, "head": 1.0})
    for _ in range(4):
        pace.record("decoder.0", 5.0)
    assert pace.seconds("decoder.0") > 3.0 and 9.0 < pace.seconds("decoder.1") < 15.0
    assert pace.seconds("head") == 1.0
    for _ in range(6):
        pace.record("decoder.0", 1.0)
    assert pace.seconds("decoder.0") == pytest.approx(1.0, rel=0.2)
    assert pace.seconds("decoder.1") == pytest.approx(3.0, rel=0.3)


def test_what_stays_slow_becomes_usual() -> None:
    pace = SpeedEstimate({"decoder.0": 1.0})
    for _ in range(60):
        pace.record("decoder.0", 5.0)
    assert pace.seconds("decoder.0") == pytest.approx(5.0, rel=0.1)
    assert pace.seconds("decoder.7") == pytest.approx(5.0, rel=0.1)


def test_a_first_call_that_loaded_the_segment_is_forgotten() -> None:
    pace = SpeedEstimate()
    pace.record("head", 2.0)
    pace.record("head", 0.001)
    assert pace.seconds("head") == pytest.approx(0.001)


def test_steps_to_come() -> None:
    pace = SpeedEstimate()
    assert pace.remaining_steps(0, 17) == (8.5, 17)  # nothing known
    for _ in range(99):
        pace.record_caption(4, cut=False)
    assert pace.remaining_steps(0, 17) == (4.0, 4)
    assert pace.remaining_steps(3, 17) == (1.0, 1)
    assert pace.remaining_steps(9, 17) == (1.0, 1)  # longer than all before
    for _ in range(3):
        pace.record_caption(10, cut=False)
    assert pace.remaining_steps(0, 17)[1] == 10
    assert pace.remaining_steps(5, 17) == (5.0, 5)  # only long captions are still going


def test_a_caption_that_was_cut_would_have_been_longer() -> None:
    pace = SpeedEstimate()
    for _ in range(5):
        pace.record_caption(3, cut=True)
    assert pace.remaining_steps(0, 17)[0] >= 4


def test_captions_that_were_cut_make_plans_more_careful_until_few_are() -> None:
    """Adaptive conformal inference: the share of cut captions tends to CUT, whatever the times do."""
    pace, cut = SpeedEstimate(), 0
    assert pace.caution == 1
    for _ in range(2000):
        ends_early = pace.caution < 2.5  # what this world asks for
        cut += ends_early
        pace.record_caption(5, cut=ends_early)
    assert 0.9 * CUT < cut / 2000 < 1.5 * CUT
    for _ in range(1000):
        pace.record_caption(5, cut=False)
    assert pace.caution == 1
