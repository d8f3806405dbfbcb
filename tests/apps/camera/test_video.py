"""Videos and cameras, and how they are lost."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest

from mue_edge.apps.camera import sources
from mue_edge.apps.camera import video as videos
from mue_edge.apps.camera.slot import Newest
from mue_edge.apps.camera.video import Video
from mue_edge.errors import EnvironmentLacksError, InputFileError
from mue_edge.inputs import image
from tests.apps.camera.made import Camera, Every, run_whole, until, video


def test_a_video_to_its_end(tmp_path: Path) -> None:
    slot = run_whole(Video(video(tmp_path / "v.avi"), speed=50))
    assert len(slot.frames) == 20
    first = image.load(slot.frames[0].read()).rgb
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


def test_a_camera_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(videos, "POLL_SECONDS", 0.001)
    slot = Newest()
    source = sources.choose("0", io.StringIO())
    source.start(slot, threading.Event()).join(30)
    assert slot.seen == 3 and isinstance(slot.problem, EnvironmentLacksError)
    assert "camera 0 was lost" in str(slot.problem)
