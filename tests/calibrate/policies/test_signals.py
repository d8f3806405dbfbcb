"""AUC of exit signals: the definition, ties, and which policy and which gap belong to a boundary."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from mue_edge.calibrate.policies.signals import SignalQuality, area, signals
from tests.calibrate import made_calibration


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    rng = random.Random(0)
    for _ in range(50):
        a, b = ([rng.randrange(6) / 5 for _ in range(rng.randint(1, 9))] for _ in range(2))
        pairs = [1.0 if x < y else 0.5 if x == y else 0.0 for x, y in product(a, b)]
        assert area(a, b) == pytest.approx(sum(pairs) / len(pairs))
    assert area([0.1], [math.inf]) == 1.0
    assert area([], [1.0]) is None and area([1.0], []) is None


def test_a_boundary_is_judged_by_the_policy_that_ends_there(tmp_path: Path) -> None:
    layout = made_calibration.evaluator(tmp_path).session.layout
    found, traces = made_calibration.search(), made_calibration.traces()
    assert signals(layout, traces, found.full, found.outcomes) == (
        SignalQuality("image", 1, kept=4, changed=4, auc=1.0),
        SignalQuality("image", 2, kept=7, changed=1, auc=0.5),
        # The widest of the steps decides, and it is the greater where the caption is kept.
        SignalQuality("decoder", 1, kept=5, changed=3, auc=0.0),
    )


def test_a_policy_that_changes_nothing_has_no_auc_and_nan_never_leaves(tmp_path: Path) -> None:
    layout = made_calibration.evaluator(tmp_path).session.layout
    found, traces = made_calibration.search(), made_calibration.traces()
    full = found.full
    ended = next(j for j in found.outcomes if j.policy.name == "fixed-1-3")
    same = replace(ended, captions=full.captions)
    assert signals(layout, traces, full, [same]) == (SignalQuality("image", 1, 8, 0, None),)
    broken = [
        tuple(replace(d, distances=(math.nan,)) if i == 4 and d.stack == "image" else d for d in decisions)
        for i, decisions in enumerate(traces)
    ]
    (one,) = signals(layout, broken, full, [ended])
    assert one.auc == pytest.approx(3 / 4)


def test_what_is_no_number_has_no_area() -> None:
    with pytest.raises(ValueError, match="not numbers"):
        area([0.1, float("nan")], [0.2])
