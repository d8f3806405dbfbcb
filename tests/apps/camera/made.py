"""Videos, pictures, a camera, a slot that keeps all, and a captioner that takes real time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mue_edge.apps.camera.slot import Frame, Newest, Source
from mue_edge.loop.policy import Policy, StackExit
from mue_edge.loop.protocol import Answer, Request
from mue_edge.sessions.captioner import Captioner
from tests.apps.served import made_captioner
from tests.made_bundle import Clock, Paced

COLOURS = ("red", "green", "blue", "white", "black", "orange")


class Slow(Paced):
    """Takes `seconds` a call, by the clock on the wall."""

    def __init__(self, seconds: float) -> None:
        super().__init__(Clock())
        self._each = seconds

    def execute(self, request: Request) -> Answer:
        time.sleep(self._each)
        answer = super().execute(request)
        return Answer(answer.scalars, answer.candidates, time.perf_counter())


def captioner(seconds: float = 0.0) -> Captioner:
    """As `made_captioner`; about 45 calls a caption."""
    return Captioner(made_captioner().bundle, Slow(seconds))


FULL = Policy("never", name="full")
FAST = Policy("fixed", {"image": StackExit(depth=1), "decoder": StackExit(depth=1)}, name="fast")


def plain(colour: str = "red", size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, colour)


def video(path: Path, scenes: int = 4, frames: int = 5) -> Path:
    """A Motion JPEG of noisy colours, `frames` each, 25 a second."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    rng = np.random.default_rng(0)
    for scene in range(scenes):
        base = np.asarray(plain(COLOURS[scene % len(COLOURS)])).astype(int)[:, :, ::-1]
        for _ in range(frames):
            out.write(np.clip(base + rng.normal(0, 2, base.shape), 0, 255).astype(np.uint8))
    out.release()
    return path


class Every(Newest):
    """Keeps all that is put."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    def put(self, frame: Frame) -> None:
        super().put(frame)
        self.frames.append(frame)

    def wait(self, timeout: float) -> bool:
        return True


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def run_whole(source: Source) -> Every:
    slot = Every()
    source.run(slot, threading.Event())
    return slot


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
