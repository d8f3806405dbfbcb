"""What is kept free at a budget's end."""

from __future__ import annotations

import random

import pytest

from mue_edge.apps.camera.margin import CAPTIONS, LEAST, MOST, Margin


def test_it_starts_small_and_learns_what_came_late() -> None:
    margin = Margin(0.1)
    assert margin.seconds == pytest.approx(0.1 * LEAST)
    margin.saw(0.03)
    assert margin.seconds == 0.03  # of a few captions, the largest
    for _ in range(CAPTIONS):
        margin.saw(-0.05)
    assert margin.seconds == pytest.approx(0.1 * LEAST)  # what was late is forgotten
    for _ in range(CAPTIONS):
        margin.saw(1.0)
    assert margin.seconds == pytest.approx(0.1 * MOST)


def test_few_captions_end_later_than_it() -> None:
    """Ends that are scattered as on a busy machine: after each, the next is judged."""
    draw, margin, late = random.Random(0), Margin(1.0), 0
    for i in range(5000):
        over = draw.expovariate(20) - 0.05
        late += i >= CAPTIONS and over > margin.seconds
        margin.saw(over)
    assert late / (5000 - CAPTIONS) < 0.03
