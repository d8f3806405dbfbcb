"""The slot: the newest frame wins, and the end of a source is told."""

from __future__ import annotations

import threading

from mue_edge.apps.camera.slot import Frame, Newest
from mue_edge.inputs import image
from tests.apps.camera.made import plain


def test_the_newest_frame_wins() -> None:
    slot = Newest()
    assert slot.take(0.0) is None
    for i in range(5):
        slot.put(Frame(plain(), float(i)))
    taken = slot.take(0.0)
    assert taken is not None and taken.taken == 4.0
    assert (slot.seen, slot.dropped, slot.take(0.0)) == (5, 4, None)
    slot.put(Frame(plain(), 5.0))
    slot.end()
    assert not slot.over  # what came last is still taken
    assert slot.take(0.0) is not None and slot.over


def test_a_slot_wakes_who_waits() -> None:
    slot = Newest()
    threading.Timer(0.05, slot.put, [Frame(plain(), 1.0)]).start()
    assert slot.take(30) is not None
    threading.Timer(0.05, slot.end).start()
    assert slot.take(30) is None and slot.over


def test_only_a_frame_that_is_taken_is_made() -> None:
    slot, made = Newest(), []
    for i in range(3):
        slot.put(Frame(lambda i=i: made.append(i) or plain("blue"), 0.0))  # type: ignore[misc, func-returns-value]
    frame = slot.take(0.0)
    assert frame is not None and image.load(frame.read()).rgb.getpixel((0, 0)) == (0, 0, 255) and made == [2]
