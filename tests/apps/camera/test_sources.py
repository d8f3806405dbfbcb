"""Sources and the slot: the newest frame wins, and the end of a source is told."""

from __future__ import annotations

import io
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mue_edge.apps.camera import sources
from mue_edge.apps.camera.sources import Folder, Frame, Newest, Paths, Source, Video
from mue_edge.errors import EnvironmentLacksError, InputFileError, UsageError
from tests.apps.camera.made import plain, video
from tests.commands.run import picture


class Every(Newest):
    """Keeps all that is put."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    def put(self, frame: Frame) -> None:
        super().put(frame)
        self.frames.append(frame)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


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


def run_whole(source: Source) -> Every:
    slot = Every()
    source.run(slot, threading.Event())
    return slot


def test_a_video_to_its_end(tmp_path: Path) -> None:
    slot = run_whole(Video(video(tmp_path / "v.avi"), speed=50))
    assert len(slot.frames) == 20
    first = slot.frames[0].load()
    assert first.mode == "RGB" and first.size == (64, 48)
    red, green, _ = np.asarray(first).mean((0, 1))
    assert red > 200 and green < 50  # not OpenCV's BGR


def test_a_video_in_a_loop_until_it_is_stopped(tmp_path: Path) -> None:
    slot, stop = Every(), threading.Event()
    thread = Video(video(tmp_path / "v.avi", 1, 3), speed=50, loop=True).start(slot, stop)
    until(lambda: slot.seen > 7)
    stop.set()
    thread.join(30)
    assert slot.problem is None and not thread.is_alive()


def test_what_is_no_video(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "a.mp4").write_bytes(b"nothing of the kind")
    with pytest.raises(InputFileError, match=r"a\.mp4"):
        Video(tmp_path / "a.mp4")
    with pytest.raises(EnvironmentLacksError, match="camera 77"):
        sources.choose("77", io.StringIO())


class Camera:
    """OpenCV's capture of a camera that is unplugged after three frames."""

    def __init__(self, place: object) -> None:
        self.left = 3
        self.released = False

    def isOpened(self) -> bool:
        return True

    def set(self, key: int, value: float) -> bool:
        return True

    def get(self, key: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        return (True, np.zeros((48, 64, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


def test_a_camera_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(sources, "POLL_SECONDS", 0.001)
    slot = Newest()
    source = sources.choose("0", io.StringIO())
    source.start(slot, threading.Event()).join(30)
    assert slot.seen == 3 and isinstance(slot.problem, EnvironmentLacksError)
    assert "camera 0 was lost" in str(slot.problem)


def test_a_folder_that_is_being_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "POLL_SECONDS", 0.05)
    folder, store = tmp_path / "in", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    whole = picture(store / "whole.png", 3).read_bytes()
    for i, name in enumerate(("old.png", "newest.png")):
        picture(folder / name, i)
        os.utime(folder / name, (i, i))
    slot, stop = Every(), threading.Event()
    thread = Folder(folder).start(slot, stop)
    until(lambda: slot.seen == 1)
    growing = (folder / "growing.png").open("wb")
    for i in range(8):  # written slowly: seen once, whole
        growing.write(whole[i * len(whole) // 8 : (i + 1) * len(whole) // 8])
        growing.flush()
        time.sleep(0.02)
    growing.close()
    until(lambda: slot.seen >= 2 and slot.frames[-1].load() is not None)
    shutil.copy(store / "whole.png", folder / ".hidden.png")
    (folder / "note.txt").write_text("no picture")
    picture(folder / "old.png", 9)  # changed: it is new again
    until(lambda: slot.frames[-1].name == "old.png")
    names = [frame.name for frame in slot.frames]
    assert names[0] == "newest.png" and set(names) == {"newest.png", "growing.png", "old.png"}
    shutil.rmtree(folder)
    thread.join(30)
    assert isinstance(slot.problem, InputFileError) and "was lost" in str(slot.problem)


def test_paths_on_a_stream() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "wb") as out:
        out.write(b"a.png\r\n\nb \xff.png\nlast")
        out.close()
        slot = run_whole(Paths(stream))
    assert [f.name for f in slot.frames] == ["a.png", os.fsdecode(b"b \xff.png"), "last"]


def test_a_stream_that_says_nothing_can_be_left() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "wb") as out:
        stop = threading.Event()
        thread = Paths(stream).start(Newest(), stop)
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        slot = Newest()
        out.write(b"x" * 10_000)
        out.flush()
        Paths(stream).start(slot, threading.Event()).join(30)
        assert isinstance(slot.problem, InputFileError)


def test_what_an_argument_names(tmp_path: Path) -> None:
    assert isinstance(sources.choose(str(tmp_path), io.StringIO()), Folder)
    assert isinstance(sources.choose("-", io.StringIO()), Paths)
    with pytest.raises(UsageError, match="mue-edge caption"):
        sources.choose(str(picture(tmp_path / "a.png")), io.StringIO())
    with pytest.raises(InputFileError, match="video file"):
        sources.choose(str(tmp_path / "none"), io.StringIO())
