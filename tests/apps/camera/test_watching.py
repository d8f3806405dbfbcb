"""Captioning the newest frame: what is reused, what is dropped, what stays in memory."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from mue_edge.apps.camera.slot import Frame, Newest
from mue_edge.apps.camera.watching import KEPT, SeenFrame, Watcher, change, describe, signature
from mue_edge.errors import EnvironmentLacksError
from mue_edge.loop.policy import Policy
from mue_edge.sessions.captioner import Caption
from tests.apps.camera.made import FAST, FULL, captioner, plain
from tests.made_bundle import Clock


def watched(frames: list[Image.Image | Path], *, alike: float | None = 0.06) -> tuple[Watcher, list[SeenFrame]]:
    """Each frame is taken before the next one comes."""
    slot = Newest()
    watcher = Watcher(captioner(), slot, FULL, alike=alike, live=False)
    found = watcher.frames()
    seen = []
    for frame in frames:
        slot.put(Frame(frame, time.perf_counter()))
        seen.append(next(found))
    slot.end()
    assert next(found, None) is None
    return watcher, seen


def test_frames_alike_reuse_the_caption() -> None:
    frames = [plain("red"), plain("red"), plain("blue"), plain("blue"), plain("red")]
    watcher, seen = watched(list(frames))
    assert [s.reused for s in seen] == [False, True, False, True, False]
    assert seen[1].caption is seen[0].caption and seen[3].picture.getpixel((0, 0)) == (0, 0, 255)
    tally = watcher.tally.record(watcher.slot)
    assert (tally["captioned"], tally["reused"], tally["dropped"]) == (3, 2, 0) and tally["saved"] > 0
    watcher, seen = watched(list(frames), alike=None)
    assert [s.reused for s in seen] == [False] * 5 and watcher.tally.saved == 0


def test_it_stops_whatever_comes() -> None:
    slot = Newest()
    watcher = Watcher(captioner(), slot, FULL, live=False)
    found = watcher.frames()
    slot.put(Frame(plain("red"), time.perf_counter()))
    next(found)
    slot.put(Frame(plain("blue"), time.perf_counter()))
    watcher.stop()
    assert next(found, None) is None and not slot.over


def test_a_slow_change_adds_up() -> None:
    fading: list[Image.Image | Path] = [Image.new("RGB", (64, 48), (i, i, i)) for i in range(0, 120, 6)]
    _, seen = watched(fading)
    assert [s.reused for s in seen][:4] == [False, True, True, False]


def test_a_small_thing_counts() -> None:
    scene, other = plain("white", (640, 480)), plain("white", (640, 480))
    other.paste("black", (200, 200, 230, 220))
    assert change(signature(scene), signature(other)) > 0.06
    assert change(signature(scene), signature(scene)) == 0
    assert signature(plain(size=(1, 1))).shape == (16, 16, 3)


def test_another_policy_captions_anew() -> None:
    slot = Newest()
    watcher = Watcher(captioner(), slot, FULL, alike=0.06, live=False)
    found = watcher.frames()
    depths = []
    for policy in (FULL, FAST, FAST, FULL):
        watcher.policy = policy
        slot.put(Frame(plain(), time.perf_counter()))
        seen = next(found)
        depths.append((seen.policy, seen.reused, seen.caption.exits["decoder"][0]))
    assert depths == [("full", False, 3), ("fast", False, 1), ("fast", True, 1), ("full", False, 3)]


def test_unreadable_pictures_are_counted_and_passed_over(tmp_path: Path) -> None:
    slot = Newest()
    watcher = Watcher(captioner(), slot, FULL, live=False)
    (tmp_path / "a.png").write_bytes(b"junk")

    def fill() -> None:
        for frame in (tmp_path / "a.png", tmp_path / "none.png", plain()):
            slot.put(Frame(frame, time.perf_counter()))
            while not slot.over and slot.seen - slot.dropped and slot._frame is not None:
                time.sleep(0.005)
        slot.end()

    thread = threading.Thread(target=fill)
    thread.start()
    assert len(list(watcher.frames())) == 1 and watcher.tally.unreadable == 2
    thread.join()


def test_a_lost_source_is_an_error_after_its_last_frame() -> None:
    slot = Newest()
    slot.put(Frame(plain(), time.perf_counter()))
    slot.end(EnvironmentLacksError("camera 0 was lost"))
    found = Watcher(captioner(), slot, FULL).frames()
    assert next(found).number == 1
    with pytest.raises(EnvironmentLacksError, match="was lost"):
        next(found)


def test_five_times_too_fast_keeps_one_frame_and_the_budget_in_mind() -> None:
    """Frames come as quickly as they can while a caption takes some 50 ms: they are dropped, not kept."""
    slot, stop = Newest(), threading.Event()
    alive: list[weakref.ref[Image.Image]] = []
    watcher = Watcher(captioner(0.001), slot, FULL, budget=0.03, alike=None)
    watcher.captioner.warm_up()

    def flood() -> None:
        while not stop.is_set():
            image = plain(("red", "blue")[len(alive) % 2], (320, 240))
            alive.append(weakref.ref(image))
            slot.put(Frame(image, time.perf_counter()))
            del image
            time.sleep(0.001)

    thread = threading.Thread(target=flood)
    thread.start()
    most = 0
    for seen in watcher.frames():
        most = max(most, sum(ref() is not None for ref in list(alive)))
        if seen.number == 20:
            break
    stop.set()
    thread.join()
    gc.collect()
    assert slot.dropped > 20 and len(alive) > 40
    assert most <= 4  # the slot's, the one that is made, the one that is shown, and the one before
    assert watcher.tally.captioned == 20
    # The clock was at work: full depth takes longer than the budget.
    assert seen.caption.deadline is not None
    assert seen.caption.deadline.hurried or seen.caption.deadline.cut_short


def test_what_ends_late_is_kept_free_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding takes 5 ms of a budget of 100, and the end comes 40 ms after the loop's own deadline."""
    slot, given, clock = Newest(), [], Clock()
    monkeypatch.setattr("mue_edge.apps.camera.watching.time", SimpleNamespace(perf_counter=clock))
    made = captioner()
    watcher = Watcher(made, slot, FULL, budget=0.1, alike=None, live=False)
    caption = made.caption

    def decoded() -> Image.Image:
        clock.now += 0.005
        return plain()

    def late(picture: Image.Image, *, policy: Policy, deadline: float) -> Caption:
        given.append(deadline)
        clock.now += deadline + 0.04
        return caption(picture, policy=policy, deadline=10.0)

    monkeypatch.setattr(made, "caption", late)
    found = watcher.frames()
    latencies = []
    for _ in range(3):
        slot.put(Frame(decoded, 0.0))
        latencies.append(next(found).latency)
    assert given == pytest.approx([0.085, 0.055, 0.055]) and latencies == pytest.approx([0.13, 0.1, 0.1])


def test_a_stale_frame_of_a_live_source_is_dropped() -> None:
    slot = Newest()
    watcher = Watcher(captioner(), slot, FULL, budget=5.0)
    slot.put(Frame(plain(), time.perf_counter() - 4.0))
    slot.end()
    assert list(watcher.frames()) == [] and watcher.tally.stale == 1
    assert watcher.tally.record(slot)["dropped"] == 1


def test_what_is_told_of_a_frame() -> None:
    watcher, seen = watched([plain()])
    record = describe(seen[0], watcher)
    assert [t["depth"] for t in record["tokens"]] == [3] * 6 and record["tokens"][-1]["word"] == "end"
    assert record["encoder"][0] == {"stack": "image", "depth": 3, "layers": 3}
    assert record["text"] == seen[0].caption.text and record["hurry"] == "" and record["budget"] is None
    watcher.tally.latencies.extend(float(i) for i in range(2 * KEPT))
    assert len(watcher.tally.latencies) == KEPT
    assert watcher.tally.quantile(0.5) == pytest.approx(1.5 * KEPT - 0.5)
