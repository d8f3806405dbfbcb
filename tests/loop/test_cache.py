"""Slots, pending rows and ancestry."""

from __future__ import annotations

from mue_edge.loop.cache import Cache


def test_pending_rows_are_the_steps_that_never_came() -> None:
    cache = Cache(segments=3, rows=2)
    depths = [3, 1, 1, 2]
    for depth in depths:
        for segment in range(depth):
            cache.mark(segment)
        cache.advance([0, 1])
    assert list(cache.pending(0)) == []
    assert list(cache.pending(1)) == []
    assert list(cache.pending(2)) == [2, 3, 4, 5, 6, 7]


def test_ancestry_follows_the_parents_and_slots_stay() -> None:
    cache = Cache(segments=1, rows=3)
    cache.advance([0, 0, 0])
    assert cache.slots() == (3, 4, 5)
    assert cache.ancestry == [(0,), (0,), (0,)]
    cache.advance([2, 0, 2])
    assert cache.ancestry == [(0, 5), (0, 3), (0, 5)]
    cache.advance([1, 1])
    assert cache.ancestry == [(0, 3, 7), (0, 3, 7)]
